//! The valuable inputs of fuzzing, tested with the same assertions in every `make test`: the corpora in `fuzz/corpus/`,
//! inputs that once showed a fault in `fuzz/regressions/`, and the seeds.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use valise_tests::fuzz::TARGETS;

/// Bytes of all committed corpora together.
const CORPORA_BYTES_MAX: u64 = 300_000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The files of a folder, or none if it is absent.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn names(files: impl IntoIterator<Item = PathBuf>) -> BTreeSet<String> {
    let stem = |file: PathBuf| file.file_stem().unwrap().to_str().unwrap().to_owned();
    files.into_iter().map(stem).collect()
}

#[test]
fn every_seed_and_every_committed_input_keeps_what_its_target_asserts() {
    let mut faults = Vec::new();
    for target in TARGETS {
        let committed = ["corpus", "regressions"].map(|kind| fuzz().join(kind).join(target.name));
        let committed = committed.iter().flat_map(|folder| files_in(folder));
        let mut inputs: Vec<(String, Vec<u8>)> = (target.seeds)();
        assert!(!inputs.is_empty(), "{} has no seeds", target.name);
        inputs.extend(committed.map(|file| (file.display().to_string(), fs::read(file).unwrap())));
        for (name, input) in inputs {
            if catch_unwind(AssertUnwindSafe(|| (target.body)(&input))).is_err() {
                faults.push(format!("{}: {name}", target.name));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn each_target_has_its_program_and_its_corpus_and_the_corpora_are_small() {
    let targets: BTreeSet<String> = TARGETS.map(|target| target.name.to_owned()).into();
    assert_eq!(names(files_in(&fuzz().join("fuzz_targets"))), targets);
    assert_eq!(names(files_in(&fuzz().join("corpus"))), targets);
    assert!(names(files_in(&fuzz().join("regressions"))).is_subset(&targets));
    let mut bytes = 0;
    for target in &targets {
        let files = files_in(&fuzz().join("corpus").join(target));
        assert!(!files.is_empty(), "{target} has no corpus");
        bytes += files
            .iter()
            .map(|file| file.metadata().unwrap().len())
            .sum::<u64>();
    }
    assert!(bytes <= CORPORA_BYTES_MAX, "{bytes} bytes of corpora");
}
