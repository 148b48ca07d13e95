//! What this machine is, in words.

use std::fs;

/// The machine's name.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Its processor, cores and memory.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|it| it.1);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    let memory = kib.map(|it| format!(", {:.0} GiB", it / 1024.0 / 1024.0)).unwrap_or_default();
    format!("{} × {}{memory}", n_cores(), model.unwrap_or("processor"))
}

/// How many threads can run at a time.
pub fn n_cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// The version of this program, with its commit where that is known.
pub fn program() -> String {
    match option_env!("JOBCTL_COMMIT") {
        Some(commit) => format!("jobctl {} ({commit})", env!("CARGO_PKG_VERSION")),
        None => format!("jobctl {}", env!("CARGO_PKG_VERSION")),
    }
}
