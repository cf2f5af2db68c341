//! Keeping memory that was had once.
//!
//! `mimalloc` gives pages back that have been empty for a second, and a simulation needs them again soon after: its lists grow by being
//! moved. Each time the system clears them anew, and huge pages fall apart, which took a sixth of the time of a run of 1,000 nodes. What
//! `mimalloc` is to do otherwise it reads from the environment, before anything of this program runs.

/// See the documentation of `mimalloc`: minus one is never.
const VARIABLE: &str = "MIMALLOC_PURGE_DELAY";

/// Has this program begin anew, in the same process, with an allocator that keeps its pages, unless the environment says what to do with
/// them. Where that is not possible everything is as it was.
pub fn keep() {
    #[cfg(unix)]
    if std::env::var_os(VARIABLE).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        use std::os::unix::process::CommandExt;
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        // It returns only if it fails.
        let _: std::io::Error =
            std::process::Command::new(program).arg0(name).args(arguments).env(VARIABLE, "-1").exec();
    }
}
