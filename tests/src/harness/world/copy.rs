//! Copies of a commissioned pair of hosts, and roles that may end by themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use valise_common::os::lock::HostLock;

use super::super::awaiting::await_condition;
use super::super::error::{Context, HarnessError, Result};
use super::super::settings::{Line, Settings};
use super::{READY_LIMIT, Role, World, free_address, is_bound, make_folder};

impl World {
    /// Returns the same two hosts in another folder and on other ports, with the present content of their files. No
    /// role may run meanwhile.
    ///
    /// The keys of the people, the courier's material and the programs are not copied: the copy must not outlive this
    /// world.
    ///
    /// # Errors
    /// If the copy cannot be written.
    pub fn copied(&self) -> Result<Self> {
        let settings = Settings {
            keep: None,
            ..self.settings.clone()
        };
        let (folder, temporary) = make_folder(&settings)?;
        for part in ["log", "line", "cables"] {
            let part = folder.join(part);
            std::fs::create_dir(&part).context("make", &part)?;
        }
        let parts = ["sender", "receiver", "handout.txt"].map(|part| self.folder.join(part));
        let output = Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .args(&parts)
            .arg(&folder)
            .output()
            .context("run", Path::new("cp"))?;
        if !output.status.success() {
            return Err(HarnessError::Command {
                command: format!("cp -a … {}", folder.display()),
                status: output.status.to_string(),
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        let listen = free_address()?;
        let entrance = match settings.line {
            Line::Direct => listen,
            Line::Wire { .. } | Line::Tapped => free_address()?,
        };
        let copy = Self {
            processes: BTreeMap::new(),
            folder,
            _temporary: temporary,
            programs: self.programs.clone(),
            settings,
            clocks: BTreeMap::new(),
            launchers: BTreeMap::new(),
            users: self.users.clone(),
            roster: self.roster.clone(),
            courier: self.courier.clone(),
            listen,
            entrance,
        };
        copy.write_configurations()?;
        Ok(copy)
    }

    /// Starts roles at the same time and waits until each works on its state.
    ///
    /// # Errors
    /// If one of them does not become ready.
    pub fn start_together(&mut self, roles: &[Role]) -> Result<()> {
        roles.iter().try_for_each(|role| self.launch_role(*role))?;
        let states: Vec<_> = roles.iter().map(|role| self.state(role.host())).collect();
        self.await_alive("the start of all roles", READY_LIMIT, &states, |world| {
            for role in roles {
                if !is_held(&world.lock_of(*role))?
                    || *role == Role::Receive && !is_bound(world.listen)
                {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
    }

    /// Kills a role, and starts it again when none of its processes works on its state any more.
    ///
    /// # Errors
    /// When its end takes too long, or it cannot be started.
    pub fn start_again(&mut self, role: Role) -> Result<()> {
        self.kill(role.word());
        let lock = self.lock_of(role);
        await_condition("the end of a killed role", READY_LIMIT, &[], || {
            Ok((!is_held(&lock)?).then_some(()))
        })?;
        self.launch_role(role)
    }

    fn lock_of(&self, role: Role) -> PathBuf {
        let name = format!("{}.lock", role.word());
        self.state(role.host()).join(name)
    }

    /// Removes a role that was started and has ended by itself from this world, and returns the error that describes
    /// its end.
    pub fn take_ended(&mut self, role: Role) -> Option<HarnessError> {
        let process = self.processes.get_mut(role.word())?;
        let end = process.check_alive().err()?;
        self.kill(role.word());
        Some(end)
    }
}

fn is_held(lock: &Path) -> Result<bool> {
    HostLock::is_held(lock).context("look at", lock)
}
