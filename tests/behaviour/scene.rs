//! A disk with a deployment, a configuration and a kernel command line: right to begin with, until
//! somebody puts something wrong.

use crate::support::failure::Result;
use crate::support::sandbox::{Edit, Ground, PRODUCT, Run, SYSROOT, Sandbox};
use crate::support::sysroots::{Disk, Disks, Kind};
use crate::support::ways::{WAYS, Way};

use crate::setting::*;

pub struct Scene {
    /// The boot link and the deployment, in the sandbox.
    pub link: String,
    pub deployment: String,
    pub cmdline: String,
    pub sysroot: String,
    /// A copy of the disk, if it is nothing else.
    pub ground: Option<Ground>,
    pub edits: Vec<Edit>,
    pub nobody: bool,
    /// The way the program goes.
    pub way: &'static Way,
    /// There are loop devices.
    pub loop_devices: bool,
    /// Other arguments for the program than the usual two.
    pub arguments: Option<Vec<String>>,
    /// Runs before, with these kernel command lines.
    pub before: Vec<String>,
    pub disk: &'static Disk,
}

impl Scene {
    /// The disk with one deployment.
    pub fn new() -> Result<Scene> {
        Scene::on(Kind::PLAIN)
    }

    /// Another disk.
    pub fn on(kind: Kind) -> Result<Scene> {
        let disk = Disks::get()?.disk(kind, false);
        Ok(Scene {
            link: format!("{SYSROOT}{}", disk.boot_links[0]),
            deployment: format!("{SYSROOT}/{}", disk.deployments[0]),
            cmdline: format!("quiet ostree={}", disk.boot_links[0]),
            sysroot: SYSROOT.into(),
            ground: None,
            edits: Vec::new(),
            nobody: false,
            way: &WAYS[0],
            loop_devices: true,
            arguments: None,
            before: Vec::new(),
            disk,
        })
    }

    /// Boot link and directory of a deployment, below the physical root.
    pub fn names(&self, index: usize) -> (&'static str, &'static str) {
        (&self.disk.boot_links[index], &self.disk.deployments[index])
    }

    pub fn config(&mut self, text: &str) {
        self.edits.push(file(CONFIG, text));
    }

    pub fn link(&mut self, text: &str) {
        self.edits.push(Edit::Link(self.link.clone(), text.into()));
    }

    pub fn image(&self) -> String {
        format!("{}/.ostree.cfs", self.deployment)
    }

    /// The commit object that the deployment is named after.
    pub fn commit(&self) -> String {
        let name = self.deployment.rsplit('/').next().unwrap_or_default();
        let (folder, file) =
            name.split('.').next().and_then(|name| name.split_at_checked(2)).unwrap_or_default();
        format!("{SYSROOT}/ostree/repo/objects/{folder}/{file}.commit")
    }

    /// Removes something of the deployment.
    pub fn remove(&mut self, path: &str) {
        self.edits.push(Edit::Remove(format!("{}/{path}", self.deployment)));
    }

    /// The program as it is run.
    pub fn command(&self) -> Vec<String> {
        self.with(self.arguments.as_deref().unwrap_or(&[self.sysroot.clone(), self.cmdline.clone()]))
    }

    fn with(&self, arguments: &[String]) -> Vec<String> {
        let without = self.way.without.iter().flat_map(|feature| ["--without", feature]);
        [PRODUCT].into_iter().chain(without).map(str::to_owned).chain(arguments.iter().cloned()).collect()
    }

    /// The sandbox with the disk, and the runs in it. The last is the one to look at.
    pub fn sandbox(&self, shared: bool) -> Result<Sandbox> {
        let ground = match &self.ground {
            Some(ground) => ground.clone(),
            None => Ground::Copy(self.disk.mounted.clone()),
        };
        let mut sandbox = Setting { shared, way: self.way }.sandbox(ground)?;
        (sandbox.host, sandbox.loop_devices) = (true, self.loop_devices);
        sandbox.edits.clone_from(&self.edits);
        let before = self.before.iter().map(|cmdline| self.with(&[self.sysroot.clone(), cmdline.clone()]));
        sandbox.runs = before.map(Run::of).collect();
        sandbox.runs.push(Run { arguments: self.command(), nobody: self.nobody });
        Ok(sandbox)
    }

    /// The disk itself, which others use at the same time, and not a copy: an image can be mounted from it.
    pub fn uncopied(mut self) -> Scene {
        self.ground =
            Some(Ground::Disk { mounted: self.disk.mounted.clone(), readonly: false, hardened: false });
        self
    }
}
