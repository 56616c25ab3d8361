//! What the process takes of its machine, by the names that Prometheus gives these everywhere.

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Names the process, once.
pub(super) fn begin(role: &'static str) {
    describe_gauge!("synddb_build_info", "The version of this process and what it does; always 1.");
    describe_gauge!("process_start_time_seconds", "When the process started, in seconds since 1970.");
    describe_gauge!("process_resident_memory_bytes", "Memory of the process that is in RAM, in bytes.");
    describe_counter!(
        "process_cpu_seconds_total",
        "CPU time of the process, user and system, in whole seconds."
    );
    describe_gauge!("process_open_fds", "Files, sockets and the like that the process has open.");
    describe_gauge!("process_max_fds", "Most of them that it may have open.");
    describe_gauge!("process_threads", "Threads of the process.");
    gauge!("synddb_build_info", "version" => env!("CARGO_PKG_VERSION"), "role" => role).set(1.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!("process_start_time_seconds").set(now.as_secs_f64());
    note();
}

/// Looks at what the process takes now. What the system does not say keeps its last value.
#[cfg(target_os = "linux")]
#[expect(clippy::cast_precision_loss, reason = "bytes, files and ticks of one process stay below 2^53")]
pub(super) fn note() {
    use procfs::WithCurrentSystemInfo as _;
    let Ok(this) = procfs::process::Process::myself() else { return };
    if let Ok(stat) = this.stat() {
        gauge!("process_resident_memory_bytes").set(stat.rss_bytes().get() as f64);
        counter!("process_cpu_seconds_total")
            .absolute((stat.utime + stat.stime) / procfs::ticks_per_second().max(1));
        gauge!("process_threads").set(stat.num_threads as f64);
    }
    if let Ok(open) = this.fd_count() {
        gauge!("process_open_fds").set(open as f64);
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        gauge!("process_max_fds").set(most as f64);
    }
}

/// Elsewhere nothing of it is known.
#[cfg(not(target_os = "linux"))]
pub(super) fn note() {}
