//! Searches the memory of a process, as an attacker who has the machine does.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use super::search::contains;

/// Returns which of these are in the memory of a process, by name and place; `None` if the kernel lets nobody read it.
///
/// # Panics
/// If the process does not exist.
pub fn remembered(pid: u32, needles: &[(&str, Vec<u8>)]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let maps = match fs::read_to_string(format!("/proc/{pid}/maps")) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        read => read.unwrap(),
    };
    let memory = match File::open(format!("/proc/{pid}/mem")) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        opened => opened.unwrap(),
    };
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split(' ').next().unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue;
        }
        for (name, needle) in needles {
            if contains(&bytes, needle) {
                found.push(format!("{name} in {line}"));
            }
        }
    }
    Some(found)
}
