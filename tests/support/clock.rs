//! Another wall clock for a process: libfaketime, where it is installed.

use std::path::{Path, PathBuf};

/// Returns the library that shows a process another wall clock, where it is installed.
pub(crate) fn other_clock() -> Option<PathBuf> {
    let folders = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib",
    ];
    let library = |folder: &&str| Path::new(folder).join("faketime/libfaketimeMT.so.1");
    folders.iter().map(library).find(|path| path.exists())
}
