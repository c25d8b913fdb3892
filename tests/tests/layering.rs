//! The rules of which module may use which (docs/architecture.md), checked in the sources.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `common`, in the order of their dependency: each uses only those before it.
const COMMON_ORDER: [&str; 23] = [
    "secret",
    "limits",
    "units",
    "ids",
    "serial_set",
    "precedence",
    "role",
    "label",
    "manifest",
    "sshsig",
    "trust",
    "bundle",
    "approval",
    "seal",
    "fec",
    "wire",
    "audit",
    "config",
    "alarm",
    "os",
    "history",
    "host",
    "",
];

/// The places in which each confined crate may be used: paths are prefixes.
const CONFINED: [(&str, &[&str]); 24] = [
    ("prometheus_client", &["common/src/host/metrics"]),
    ("reed_solomon_erasure", &["common/src/fec/"]),
    ("reed_solomon_simd", &["common/src/fec/"]),
    ("chacha20poly1305", &["common/src/seal/"]),
    ("aes_gcm", &[]),
    ("ring", &["common/src/wire/"]),
    ("hpke", &["common/src/seal/"]),
    ("hkdf", &["common/src/seal/"]),
    ("ssh_key", &["common/src/sshsig/"]),
    (
        "ed25519_dalek",
        &["common/src/sshsig/", "common/src/audit/"],
    ),
    (
        "systemd",
        &["common/src/os/service.rs", "common/src/os/service/"],
    ),
    (
        "rustix",
        &[
            "common/src/os/durable/",
            "common/src/os/sandbox",
            "common/src/os/serial.rs",
            "common/src/os/serial/",
            "common/src/os/tty.rs",
            "sender/src/spool/link_udp.rs",
        ],
    ),
    ("landlock", &["common/src/os/sandbox"]),
    ("seccompiler", &["common/src/os/sandbox"]),
    ("serialport", &["common/src/os/serial_ports.rs"]),
    ("rusqlite", &["common/src/history/index"]),
    ("jiff", &["common/src/units/"]),
    ("crc32c", &["common/src/wire/"]),
    ("cobs", &["common/src/wire/"]),
    ("unicode_normalization", &["common/src/manifest/"]),
    ("unicode_properties", &["common/src/manifest/"]),
    (
        "zeroizing_alloc",
        &["sender/src/main.rs", "receiver/src/main.rs"],
    ),
    (
        "getrandom",
        &[
            "common/src/os/",
            "common/src/seal/",
            "sender/src/spool/",
            "receiver/src/spool/",
        ],
    ),
    (
        "nix",
        &[
            "common/src/os/",
            "common/src/history/",
            "common/src/host/",
            "sender/src/",
            "receiver/src/",
        ],
    ),
];

/// Names that pure code must not use: the clock, files, sockets, logs, randomness, and maps without order.
const IMPURE: [&str; 21] = [
    "std::fs",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::ToSocketAddrs",
    "std::thread",
    "std::process",
    "std::env",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::collections::hash_map",
    "tracing",
    "nix",
    "getrandom",
    "rusqlite",
    "serialport",
    "valise_common::os",
    "valise_common::history",
    "valise_common::host",
];

/// A path that a source uses, and its place.
#[derive(Debug)]
struct Edge {
    file: String,
    line: usize,
    path: Vec<String>,
}

impl Edge {
    fn starts_with(&self, path: &str) -> bool {
        let wanted: Vec<&str> = path.split("::").collect();
        self.path.len() >= wanted.len() && wanted.iter().zip(&self.path).all(|(a, b)| a == b)
    }

    fn describe(&self) -> String {
        format!("{}:{}: {}", self.file, self.line, self.path.join("::"))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path
            .file_stem()
            .is_some_and(|stem| stem == "tests" || stem == "testing")
        {
            // Modules of tests in files of their own are declared under `#[cfg(test)]`.
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// A source without its comments, its string literals, and everything from its first test module on.
fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap();
    let mut code = String::new();
    for line in text.lines() {
        let mut in_string = false;
        let mut previous = ' ';
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            if character == '"' && previous != '\\' && previous != '\'' {
                in_string = !in_string;
            } else if !in_string && character == '/' && characters.peek() == Some(&'/') {
                break;
            } else if !in_string {
                code.push(character);
            }
            previous = character;
        }
        code.push('\n');
    }
    code
}

/// The module path of a file: `common/src/os/lock.rs` is `crate::os::lock`.
fn module_of(file: &str) -> Vec<String> {
    let inside = file
        .split_once("/src/")
        .unwrap()
        .1
        .strip_suffix(".rs")
        .unwrap();
    let mut path = vec!["crate".to_owned()];
    path.extend(
        inside
            .split('/')
            .filter(|part| !matches!(*part, "mod" | "lib" | "main"))
            .map(str::to_owned),
    );
    path
}

/// Expands `a::{b, c::{d, e}}` into its paths.
fn expand(tree: &str, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let mut path = prefix.to_vec();
    if let Some((head, rest)) = tree.split_once('{') {
        path.extend(words(head));
        let inner = rest.trim_end().strip_suffix('}').unwrap_or(rest);
        let mut depth = 0;
        let mut start = 0;
        for (index, character) in inner.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&inner[start..index], &path, paths);
                    start = index + 1;
                }
                _ => {}
            }
        }
        expand(&inner[start..], &path, paths);
    } else if !tree.is_empty() {
        let name = tree.split(" as ").next().unwrap();
        path.extend(words(name));
        paths.push(path);
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split("::")
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
}

/// Replaces `self` and `super` by the modules that they mean.
fn absolute(path: Vec<String>, module: &[String]) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    for word in path {
        match word.as_str() {
            "self" if whole.is_empty() => whole = module.to_vec(),
            "self" => {}
            "super" => {
                if whole.is_empty() {
                    whole = module.to_vec();
                }
                whole.pop();
            }
            _ => whole.push(word),
        }
    }
    whole
}

/// Every path in `use` declarations, and every other path of at least two words.
fn edges_of(file: &str, text: &str) -> Vec<Edge> {
    let code = code_of(text);
    let module = module_of(file);
    let mut edges = Vec::new();
    let mut note = |offset: usize, path: Vec<String>| {
        let line = code[..offset].lines().count().max(1);
        edges.push(Edge {
            file: file.to_owned(),
            line,
            path: absolute(path, &module),
        });
    };
    let mut rest = 0;
    while let Some(found) = code[rest..].find("use ") {
        let at = rest + found;
        rest = at + 4;
        if code[..at]
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || c == '_')
        {
            continue;
        }
        let Some(end) = code[rest..].find(';') else {
            break;
        };
        let mut paths = Vec::new();
        expand(&code[rest..rest + end], &[], &mut paths);
        for path in paths {
            note(at, path);
        }
        rest += end;
    }
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut start = None;
    for (index, character) in code.char_indices().chain([(code.len(), ' ')]) {
        match (is_path(character), start) {
            (true, None) => start = Some(index),
            (false, Some(begin)) => {
                let token = &code[begin..index];
                if token.contains("::") && !token.starts_with("::") {
                    note(begin, words(token).collect());
                }
                start = None;
            }
            _ => {}
        }
    }
    edges
}

fn edges_in(folders: &[&str]) -> Vec<Edge> {
    let root = root();
    let mut edges = Vec::new();
    for folder in folders {
        let mut files = Vec::new();
        sources(&root.join(folder), &mut files);
        for file in files {
            let name = file
                .strip_prefix(&root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            edges.extend(edges_of(&name, &fs::read_to_string(&file).unwrap()));
        }
    }
    edges
}

fn forbid(edges: &[Edge], what: &str, is_forbidden: impl Fn(&Edge) -> bool) {
    let mut found: Vec<String> = edges
        .iter()
        .filter(|edge| is_forbidden(edge))
        .map(Edge::describe)
        .collect();
    found.dedup();
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

fn is_pure(file: &str) -> bool {
    file.contains("/src/model/")
        || file.contains("/src/steps/")
        || file.ends_with("/src/pipeline.rs")
        || file.contains("/src/pipeline/")
        || file.starts_with("common/src/")
            && !file.starts_with("common/src/os/")
            && !file.starts_with("common/src/history/")
            && !file.starts_with("common/src/host/")
}

#[test]
fn the_reader_of_use_lines_understands_them() {
    let text = "use std::{fs, io::{self, Read}};\n// use nix::x;\nuse super::b as c;\n\
                fn f() { let x = crate::os::lock::take(\"nix::y\"); }\n#[cfg(test)]\nmod t { use z::q; }";
    let edges = edges_of("common/src/wire/beacon.rs", text);
    let paths: Vec<String> = edges.iter().map(|edge| edge.path.join("::")).collect();
    for path in [
        "std::fs",
        "std::io",
        "std::io::Read",
        "crate::wire::b",
        "crate::os::lock::take",
    ] {
        assert!(
            paths.iter().any(|found| found == path),
            "{path} not in {paths:?}"
        );
    }
    assert!(
        !paths
            .iter()
            .any(|path| path.contains("nix") || path.contains('z')),
        "{paths:?}"
    );
}

#[test]
fn the_modules_of_common_use_only_those_before_them() {
    let place = |module: &str| COMMON_ORDER.iter().position(|known| *known == module);
    forbid(
        &edges_in(&["common/src"]),
        "an edge against the order of common",
        |edge| {
            let module = module_of(&edge.file);
            let (Some(from), true) = (
                module.get(1),
                edge.path.first().is_some_and(|p| p == "crate"),
            ) else {
                return false;
            };
            let to = edge.path.get(1).map(String::as_str).unwrap_or_default();
            match (place(from), place(to)) {
                (Some(from), Some(to)) => to > from && to < COMMON_ORDER.len() - 1,
                _ => panic!("a module without a place in the order: {}", edge.describe()),
            }
        },
    );
}

#[test]
fn common_uses_neither_host_and_the_hosts_not_each_other() {
    let either = |edge: &Edge| {
        edge.starts_with("valise_sender")
            || edge.starts_with("valise_receiver")
            || edge.starts_with("valise_tests")
    };
    forbid(&edges_in(&["common/src"]), "common uses a host", either);
    forbid(
        &edges_in(&["sender/src", "receiver/src"]),
        "a host uses the other",
        |edge| {
            let own = match edge.file.starts_with("sender") {
                true => "valise_sender",
                false => "valise_receiver",
            };
            either(edge) && !(edge.starts_with(own) && edge.file.ends_with("main.rs"))
        },
    );
}

#[test]
fn pure_code_has_no_clock_file_socket_log_or_chance() {
    let edges = edges_in(&["common/src", "sender/src", "receiver/src"]);
    forbid(&edges, "pure code names what is not pure", |edge| {
        // The names of the state's files are an agreement, and not access to the file system.
        let names = edge.starts_with("valise_common::host::folders");
        is_pure(&edge.file) && !names && IMPURE.iter().any(|impure| edge.starts_with(impure))
    });
    forbid(&edges, "common's pure part uses common::os", |edge| {
        edge.file.starts_with("common/src/")
            && is_pure(&edge.file)
            && ["crate::os", "crate::history", "crate::host"]
                .iter()
                .any(|outer| edge.starts_with(outer))
    });
}

/// The parts of a host in the order of their dependency: each uses only those before it, and no role uses the other.
const HOST_ORDER: [&[&str]; 5] = [
    &["model"],
    &["steps"],
    &["pipeline"],
    &["spool"],
    &["gate", "transmit", "receive", "release"],
];

#[test]
fn the_places_of_a_host_use_only_those_before_them() {
    let place = |name: &str| HOST_ORDER.iter().position(|names| names.contains(&name));
    forbid(
        &edges_in(&["sender/src", "receiver/src"]),
        "an edge against the order of a host",
        |edge| {
            let module = module_of(&edge.file);
            let (Some(from), true) = (
                module.get(1),
                edge.path.first().is_some_and(|p| p == "crate"),
            ) else {
                return false;
            };
            let to = edge.path.get(1).map(String::as_str).unwrap_or_default();
            match (place(from), place(to)) {
                // The command line is above all of them.
                (Some(_), None) => to == "cli",
                (Some(below), Some(above)) => above > below || above == below && from != to,
                (None, _) => false,
            }
        },
    );
}

#[test]
fn each_third_party_crate_is_where_it_belongs() {
    let edges = edges_in(&["common/src", "sender/src", "receiver/src"]);
    for (name, places) in CONFINED {
        forbid(
            &edges,
            &format!("{name} is named outside of {places:?}"),
            |edge| {
                edge.starts_with(name) && !places.iter().any(|place| edge.file.starts_with(place))
            },
        );
    }
}

#[test]
fn no_crate_escapes_the_workspaces_lints() {
    for name in ["common", "sender", "receiver", "tests"] {
        let text = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{name}");
    }
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(text.contains("unsafe_code = \"forbid\""));
}

#[test]
fn proofs_cannot_be_copied_defaulted_or_read_from_anywhere() {
    for (file, proof) in [
        ("sender/src/steps/approve.rs", "Approved"),
        ("receiver/src/steps/verify.rs", "Verified"),
    ] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let text = code_of(&text);
        let declaration = format!("pub struct {proof}");
        let at = text
            .find(&declaration)
            .unwrap_or_else(|| panic!("{file} declares no {proof}"));
        let above = text[..at].rsplit(['}', ';']).next().unwrap();
        for word in ["Clone", "Copy", "Default", "Deserialize"] {
            assert!(!above.contains(word), "{proof} derives {word}");
            assert!(!text.contains(&format!("impl {word} for {proof}")));
        }
        assert!(
            !text.contains(&format!("for {proof} ")),
            "{proof} has a conversion: check it here"
        );
        let body = text[at..].split('}').next().unwrap();
        let is_private = |field: &str| field.contains(':') && !field.trim().starts_with("pub");
        let fields = body.split_once(['{', '(']).unwrap().1;
        assert!(
            fields.split(',').any(is_private),
            "{proof} has no private field"
        );
    }
}
