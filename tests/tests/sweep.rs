//! A few cases of `valise-sweep`: one of each role and kind of fault. `make sweep` runs many.
#![allow(clippy::unwrap_used)]

use clap::Parser as _;
use valise_tests::harness::{Programs, obstacle, remark};
use valise_tests::sweep::{Options, run_cases};

/// Cases of each kind: during the start and later, in files, in directories, and on the link.
const CASES: [&str; 12] = [
    "--role gate --phase start --fault SIGKILL --call renameat2 --at 6",
    "--role gate --phase running --fault EIO --call fsync --at 3",
    "--role gate --phase running --fault ENOSPC --call mkdir --at 2",
    "--role gate --phase start --fault EMFILE --call openat --at 222",
    "--role gate --phase running --fault EIO --call fsetxattr --at 1",
    "--role transmit --phase running --fault SIGKILL --call sendmmsg --at 20",
    "--role transmit --phase start --fault EIO --call pread64 --at 12",
    "--role receive --phase running --fault SIGKILL --call fdatasync --at 3",
    "--role receive --phase running --fault ENOSPC --call pwrite64 --at 3",
    "--role release --phase start --fault SIGKILL --call rename --at 2",
    "--role release --phase running --fault EIO --call fsync --at 4",
    "--role release --phase running --fault EIO --call mkdir --at 19",
];

#[test]
fn a_fault_in_one_system_call_of_a_role_loses_nothing_and_leaves_nothing() {
    if let Some(why) = obstacle(std::path::Path::new("/")) {
        remark(&format!("no system call is broken: {why}"));
        return;
    }
    let cases = CASES.map(|line| {
        let words = std::iter::once("valise-sweep").chain(line.split(' '));
        let options = Options::try_parse_from(words).unwrap();
        options.only_case().unwrap().unwrap()
    });
    let report = run_cases(Programs::built().unwrap(), cases.to_vec(), 2).unwrap();
    assert!(report.is_clean(), "{}", report.table());
    let reached = report.outcomes.iter().filter(|outcome| outcome.is_reached);
    // The threads and the times of their calls differ from run to run.
    assert!(reached.count() >= CASES.len() - 2, "{}", report.table());
}
