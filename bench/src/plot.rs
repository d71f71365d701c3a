//! Line charts as SVG: several panels beside each other with one logarithmic axis, one line per
//! series, a legend. A text file a person can open in a browser and a reviewer can compare.

use std::fmt::Write as _;

/// Space of one panel, in pixels, axes included.
const PANEL: (f64, f64) = (360.0, 340.0);
/// Around the lines of a panel: left for labels, below for the axis.
const LEFT: f64 = 56.0;
const BELOW: f64 = 46.0;
/// Above the panels: title and what was measured; below them: the legend.
const TOP: f64 = 74.0;
const LEGEND: f64 = 34.0;
/// Lines of the grid along the plain axis.
const STEPS: u32 = 5;
/// A chart is read by eye; more than this is a mistake of the caller.
const POINTS_MAX: usize = 10_000;

/// Colors that people who see few colors can tell apart (Okabe and Ito), in the order of series.
const COLORS: [&str; 8] = [
    "#999999", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];

/// A whole picture.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// The first line.
    pub title: String,
    /// The second line: machine, date, what is compared.
    pub subtitle: String,
    /// What the plain axis counts.
    pub x_label: String,
    /// What the logarithmic axis counts.
    pub y_label: String,
    /// From left to right; all share both axes.
    pub panels: Vec<Panel>,
}

/// One field of lines.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// What this one shows.
    pub title: String,
    /// In the order of the legend, the same in each panel.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Places; a value that is not positive and finite is left out.
    pub points: Vec<(f64, f64)>,
}

/// Ends of both axes.
#[derive(Clone, Copy, Debug)]
struct Axes {
    x_max: f64,
    /// Powers of ten.
    decades: (i32, i32),
}

impl Chart {
    /// The picture as an SVG document.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let axes = self.axes();
        let width = PANEL.0 * self.panels.len().max(1) as f64;
        let height = TOP + PANEL.1 + LEGEND;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        text(
            &mut svg,
            (12.0, 24.0),
            "start",
            "font-size=\"16\"",
            &self.title,
        );
        text(
            &mut svg,
            (12.0, 42.0),
            "start",
            "fill=\"#555555\"",
            &self.subtitle,
        );
        for (at, panel) in self.panels.iter().enumerate() {
            let _infallible = writeln!(
                svg,
                "<g transform=\"translate({},{TOP})\">",
                at as f64 * PANEL.0
            );
            self.panel(&mut svg, panel, axes, at == 0);
            svg.push_str("</g>\n");
        }
        self.legend(&mut svg, TOP + PANEL.1 + LEGEND / 2.0);
        svg.push_str("</svg>\n");
        svg
    }

    fn axes(&self) -> Axes {
        let points = || {
            self.panels
                .iter()
                .flat_map(|panel| &panel.series)
                .flat_map(Series::shown)
        };
        let x_max = points().map(|point| point.0).fold(0.0, f64::max);
        let low = points().map(|point| point.1).fold(f64::INFINITY, f64::min);
        let high = points().map(|point| point.1).fold(0.0, f64::max);
        let decades = match low.is_finite() {
            true => (decade(low.log10().floor()), decade(high.log10().ceil())),
            false => (0, 1),
        };
        Axes {
            x_max: if x_max > 0.0 { x_max } else { 1.0 },
            decades: (decades.0, decades.1.max(decades.0 + 1)),
        }
    }

    fn panel(&self, svg: &mut String, panel: &Panel, axes: Axes, first: bool) {
        text(
            svg,
            (LEFT, -8.0),
            "start",
            "font-weight=\"bold\"",
            &panel.title,
        );
        grid(svg, axes);
        let middle = f64::midpoint(LEFT, PANEL.0 - 12.0);
        text(svg, (middle, PANEL.1 - 10.0), "middle", "", &self.x_label);
        if first {
            let turned = format!("transform=\"rotate(-90 14 {y})\"", y = PANEL.1 / 2.0);
            text(svg, (14.0, PANEL.1 / 2.0), "middle", &turned, &self.y_label);
        }
        for (series, color) in panel.series.iter().zip(COLORS.iter().cycle()) {
            let mut path = String::new();
            for point in series.shown() {
                let (x, y) = axes.place(point);
                let _infallible = write!(path, "{x:.1},{y:.1} ");
                let _infallible = writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{color}\"/>"
                );
            }
            let _infallible = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.8\"/>",
                path.trim_end()
            );
        }
    }

    fn legend(&self, svg: &mut String, y: f64) {
        let series = self.panels.first().map(|panel| panel.series.as_slice());
        let names = series.unwrap_or_default().iter().zip(COLORS.iter().cycle());
        let mut x = LEFT;
        for (series, color) in names {
            let end = x + 22.0;
            let _infallible = writeln!(
                svg,
                "<line x1=\"{x}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\" stroke=\"{color}\" stroke-width=\"3\"/>"
            );
            text(svg, (end + 6.0, y + 4.0), "start", "", &series.name);
            x = end + 30.0 + 7.5 * series.name.chars().count() as f64;
        }
    }
}

impl Series {
    fn shown(&self) -> impl Iterator<Item = (f64, f64)> {
        let is_shown =
            |point: &(f64, f64)| point.0.is_finite() && point.1.is_finite() && point.1 > 0.0;
        self.points
            .iter()
            .copied()
            .filter(is_shown)
            .take(POINTS_MAX)
    }
}

impl Axes {
    fn place(self, (x, y): (f64, f64)) -> (f64, f64) {
        let (low, high) = (f64::from(self.decades.0), f64::from(self.decades.1));
        let right = PANEL.0 - 12.0 - LEFT;
        let up = PANEL.1 - BELOW;
        (
            LEFT + right * x / self.x_max,
            up * (1.0 - (y.log10() - low) / (high - low)),
        )
    }
}

fn grid(svg: &mut String, axes: Axes) {
    let end = PANEL.0 - 12.0;
    for decade in axes.decades.0..=axes.decades.1 {
        let y = axes.place((0.0, 10_f64.powi(decade))).1;
        let _infallible = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{end}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>"
        );
        text(
            svg,
            (LEFT - 6.0, y + 4.0),
            "end",
            "fill=\"#555555\"",
            &number(10_f64.powi(decade)),
        );
    }
    let bottom = PANEL.1 - BELOW;
    for step in 0..=STEPS {
        let value = axes.x_max * f64::from(step) / f64::from(STEPS);
        let x = axes.place((value, 1.0)).0;
        let _infallible = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#eeeeee\"/>"
        );
        text(
            svg,
            (x, bottom + 16.0),
            "middle",
            "fill=\"#555555\"",
            &number(value),
        );
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, more: &str, words: &str) {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _infallible = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{words}</text>"
    );
}

/// 12000 is 12k.
fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", trimmed(value / 1e6)),
        value if value >= 1e3 => format!("{}k", trimmed(value / 1e3)),
        value => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the logarithm of a finite number is below 400"
)]
fn decade(value: f64) -> i32 {
    value as i32
}

#[cfg(test)]
mod tests {
    use super::{Chart, Panel, Series, number};

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        let series = Series {
            name: "a <b>".to_owned(),
            points,
        };
        let panel = Panel {
            title: "p99".to_owned(),
            series: vec![series],
        };
        Chart {
            panels: vec![panel],
            ..Chart::default()
        }
    }

    #[test]
    fn a_point_stands_where_its_logarithm_is() {
        // From 10 to 1000 over 294 pixels: 100 is in the middle, and half of the axis to the right.
        let svg = chart(vec![(50.0, 100.0), (100.0, 10.0), (100.0, 1000.0)]).to_svg();
        assert!(svg.contains("cx=\"202.0\" cy=\"147.0\""), "{svg}");
        assert!(svg.contains("cx=\"348.0\" cy=\"294.0\""), "{svg}");
        assert!(svg.contains("cx=\"348.0\" cy=\"0.0\""), "{svg}");
        assert!(svg.contains("a &lt;b&gt;"), "{svg}");
    }

    #[test]
    fn nothing_and_nonsense_make_an_empty_picture() {
        for points in [
            vec![],
            vec![(1.0, 0.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)],
        ] {
            let svg = chart(points).to_svg();
            assert!(
                !svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<circle"),
                "{svg}"
            );
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (12_500.0, "12.5k"),
            (2e6, "2M"),
            (0.01, "0.01"),
            (10.0, "10"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
