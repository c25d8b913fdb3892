//! The effects of `make` on a system: it installs below any prefix, and changes no installed package without
//! permission.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use valise_tests::harness::{Programs, remark};

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_owned()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap();
    let paths = paths.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => vec![path],
        })
        .collect()
}

#[test]
fn another_prefix_reaches_every_file_that_is_installed() {
    let programs = Programs::built().unwrap();
    let built = programs.sender.parent().unwrap();
    for prefix in ["/usr", "/usr/local", "/opt/valise"] {
        let destination = tempfile::tempdir().unwrap();
        let place = destination.path().display();
        let installed = Command::new("make")
            .args(["--no-print-directory", "install"])
            .arg(format!("RELEASE={}", built.display()))
            .arg(format!("DESTDIR={place}"))
            .arg(format!("PREFIX={prefix}"))
            .current_dir(root())
            .env_remove("MAKEFLAGS")
            .output()
            .unwrap();
        assert!(installed.status.success(), "{installed:?}");
        let below = |path: &str| destination.path().join(path.trim_start_matches('/'));
        let (mut started, mut described) = (0, 0);
        for file in files_below(destination.path()) {
            let Ok(text) = fs::read_to_string(&file) else {
                continue;
            };
            for word in text.split([' ', '=', '\n', '`', ')', '(', '"', '\'', ',']) {
                let word = word.strip_prefix("file://").unwrap_or(word);
                let is_named = word.ends_with("/bin/valise-sender")
                    || word.ends_with("/bin/valise-receiver")
                    || word.contains("/share/doc/valise");
                if word.starts_with('/') && is_named {
                    let what = format!("{} names {word}", file.display());
                    assert!(word.starts_with(&format!("{prefix}/")), "{what}");
                    let named = below(word.trim_end_matches(['.', ':', ';']));
                    assert!(named.exists(), "{what}, which is not installed");
                    started += usize::from(word.contains("/bin/"));
                    described += usize::from(word.contains("/share/"));
                }
            }
        }
        assert!(started >= 4 && described >= 8, "{started}, {described}");
        let etc = fs::read_dir(below("etc/valise")).unwrap();
        assert_eq!(etc.count(), 0, "a configuration is its administrator's");
    }
}

/// A system of its own for apt-get and dpkg, with an archive of three packages: `tool` needs nothing, `dev` needs `lib`
/// 2.0, and `lib` 1.0 is installed.
struct System {
    folder: TempDir,
}

impl System {
    /// Makes the system. Returns `None`, and prints that, if apt-get is absent or this user may not install.
    fn make() -> Option<Self> {
        let has_apt =
            Path::new("/usr/bin/apt-get").exists() && Path::new("/usr/bin/dpkg-deb").exists();
        if !has_apt || !nix::unistd::geteuid().is_root() {
            remark("SKIPPED: only root can install packages, where apt-get is");
            return None;
        }
        let system = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for folder in [
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
            "var/log/apt",
            "archive",
        ] {
            fs::create_dir_all(system.path(folder)).unwrap();
        }
        let index = [
            "lib:2.0:",
            "dev:2.0:Depends: valise-test-lib (= 2.0)\n",
            "tool:1.0:",
        ]
        .map(|package| system.package(package));
        fs::write(system.path("archive/Packages"), index.concat()).unwrap();
        let installed = control("lib", "1.0", "Status: install ok installed\n");
        fs::write(system.path("var/lib/dpkg/status"), installed + "\n").unwrap();
        fs::write(system.path("var/lib/dpkg/info/valise-test-lib.list"), "").unwrap();
        let root = system.folder.path().display();
        let source = format!("deb [trusted=yes] file:{root}/archive ./\n");
        fs::write(system.path("etc/apt/sources.list"), source).unwrap();
        let text = format!(
            "Dir \"{root}/\";\nDir::State::status \"{root}/var/lib/dpkg/status\";\nAPT::Sandbox::User \"root\";\n\
             DPkg::Options {{ \"--root={root}\"; }};\n"
        );
        fs::write(system.path("apt.conf"), text).unwrap();
        Some(system)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Builds a package of the archive; returns its lines in the index.
    fn package(&self, described: &str) -> String {
        let mut fields = described.splitn(3, ':');
        let mut field = || fields.next().unwrap();
        let control = control(field(), field(), field());
        let build = self.path("build");
        fs::create_dir_all(build.join("DEBIAN")).unwrap();
        fs::write(build.join("DEBIAN/control"), &control).unwrap();
        let file = format!("{}.deb", described.split(':').next().unwrap());
        let package = self.path("archive").join(&file);
        let built = Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([&build, &package])
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
        let bytes = fs::read(package).unwrap();
        let (size, hash) = (bytes.len(), hex::encode(Sha256::digest(&bytes)));
        format!("{control}Filename: ./{file}\nSize: {size}\nSHA256: {hash}\n\n")
    }

    /// The script, after the words that start it.
    fn script(&self, launcher: &[&str], package: &str) -> Command {
        let script = root().join("tests/install-packages").display().to_string();
        let package = format!("valise-test-{package}");
        let words = [launcher, &[&script, &package]].concat();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env("APT_CONFIG", self.path("apt.conf"))
            .env_remove("VALISE_UPGRADE")
            .stdin(Stdio::null());
        command
    }

    /// Installs a package without a terminal, so that nobody can be asked.
    fn install(&self, package: &str) -> (Option<i32>, String) {
        told(self.script(&[], package).output().unwrap())
    }

    /// Installs a package at a terminal, where a person answers.
    fn install_at_terminal(&self, package: &str, answer: &str) -> (Option<i32>, String) {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let mut person = File::from(terminal.master);
        writeln!(person, "{answer}").unwrap();
        let mut script = self.script(&["setsid", "--ctty", "--wait"], package);
        told(script.stdin(terminal.slave).output().unwrap())
    }

    /// The installed versions, by package.
    fn installed(&self) -> Vec<String> {
        let admin = format!("--admindir={}", self.path("var/lib/dpkg").display());
        let shown = Command::new("dpkg-query")
            .args([&admin, "--show", "--showformat=${Package} ${Version}\n"])
            .output()
            .unwrap();
        let (_, text) = told(shown);
        text.lines().map(str::to_owned).collect()
    }
}

fn control(name: &str, version: &str, more: &str) -> String {
    format!(
        "Package: valise-test-{name}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.org>\n\
         Description: a test\n{more}"
    )
}

fn told(output: Output) -> (Option<i32>, String) {
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn an_installed_package_is_changed_only_by_a_person_who_says_yes() {
    const BEFORE: [&str; 1] = ["valise-test-lib 1.0"];
    const AFTER: [&str; 2] = ["valise-test-dev 2.0", "valise-test-lib 2.0"];
    let Some(system) = System::make() else {
        return;
    };
    let (status, text) = system.install("dev");
    assert_eq!(status, Some(3), "{text}");
    for part in [
        "change packages that are installed: valise-test-lib",
        "VALISE_UPGRADE=yes",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(system.installed(), BEFORE);
    for answer in ["n", "", "no", "perhaps"] {
        let (status, text) = system.install_at_terminal("dev", answer);
        assert_eq!(status, Some(3), "{answer}: {text}");
        for part in [
            "valise-test-lib",
            "upgrade them now? [y/N]",
            "nothing was installed",
        ] {
            assert!(text.contains(part), "{answer}: {text}");
        }
        assert_eq!(system.installed(), BEFORE, "{answer}");
    }
    let (status, text) = system.install_at_terminal("dev", "y");
    assert_eq!(status, Some(0), "{text}");
    assert_eq!(system.installed(), AFTER);
}

#[test]
fn what_changes_nothing_is_installed_without_a_question_and_a_change_where_it_is_allowed() {
    let Some(system) = System::make() else {
        return;
    };
    let (status, text) = system.install("tool");
    assert_eq!(status, Some(0), "{text}");
    assert_eq!(
        system.installed(),
        ["valise-test-lib 1.0", "valise-test-tool 1.0"]
    );
    let mut allowed = system.script(&[], "dev");
    let (status, text) = told(allowed.env("VALISE_UPGRADE", "yes").output().unwrap());
    assert_eq!(status, Some(0), "{text}");
    assert!(
        system
            .installed()
            .contains(&"valise-test-lib 2.0".to_owned())
    );
}
