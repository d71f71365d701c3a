//! `/`: links, and a button for each change.

use std::fmt::Write;

use crate::admin::reply::Reply;
use crate::admin::route::Access;
use crate::admin::route::ENDPOINTS;

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
<title>Weir</title><style>\
body{font-family:sans-serif;margin:2em}td{padding:.2em 1em .2em 0}form{margin:0}\
</style></head>\n<body>\n<h1>Weir</h1>\n<table>\n";

/// The page; all of it comes from the table of endpoints, nothing from the network.
pub(in crate::admin) fn page() -> Reply {
    let mut page = HEAD.to_owned();
    for endpoint in &ENDPOINTS {
        let (path, help) = (endpoint.path, endpoint.help);
        let link = match endpoint.access {
            Access::Both | Access::Read => format!("<a href=\"{path}\">{path}</a>"),
            Access::Change => {
                format!("<form method=\"post\" action=\"{path}\"><button>{path}</button></form>")
            }
        };
        writeln!(page, "<tr><td>{link}</td><td>{help}</td></tr>")
            .expect("a string takes every character");
    }
    page.push_str("</table>\n</body>\n</html>\n");
    Reply::html(page)
}
