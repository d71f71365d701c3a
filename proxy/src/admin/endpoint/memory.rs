//! `/memory`: what the kernel says this process uses.

use std::fs;

use serde_json::json;

use crate::admin::reply::Reply;
use crate::admin::route::Call;

/// Bytes, from `/proc/self/status`; zeros where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Private pages in memory.
    pub(super) allocated: u64,
    /// Address space taken for data.
    pub(super) heap_size: u64,
    /// All pages in memory.
    pub(super) physical: u64,
}

impl Memory {
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status");
        Self::parse(&status.unwrap_or_default())
    }

    fn parse(status: &str) -> Self {
        let mut memory = Self::default();
        for line in status.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let field = match name {
                "RssAnon" => &mut memory.allocated,
                "VmData" => &mut memory.heap_size,
                "VmRSS" => &mut memory.physical,
                _ => continue,
            };
            let kibibytes = value.trim().trim_end_matches(" kB").parse();
            *field = kibibytes.unwrap_or(0_u64).saturating_mul(1024);
        }
        memory
    }
}

/// In the shape of `envoy.admin.v3.Memory`; what only its allocator has is zero.
pub(in crate::admin) fn reply(_: &Call<'_>) -> Reply {
    let memory = Memory::now();
    Reply::json(&json!({
        "allocated": memory.allocated.to_string(),
        "heap_size": memory.heap_size.to_string(),
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": memory.physical.to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::Memory;

    #[test]
    fn reads_the_kernels_lines() {
        let status = "Name:\tweir\nVmData:\t  300 kB\nVmRSS:\t    20 kB\nRssAnon:\t    10 kB\nbad\nVmSwap: x\n";
        let expected = Memory {
            allocated: 10_240,
            heap_size: 307_200,
            physical: 20_480,
        };
        assert_eq!(Memory::parse(status), expected);
    }
}
