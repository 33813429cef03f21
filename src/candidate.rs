//! A deployment that could be booted: found, verified and planned.

use crate::config::Config;
use crate::contents::Contents;
use crate::deployment::Deployment;
use crate::error::Result;
use crate::image::Image;
use crate::lookup;
use crate::plan::{self, Plan, Source};
use crate::sysroot::Sysroot;
use alloc::vec::Vec;
use rustix::fs::FileType;

/// All that is needed to make it the root.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The deployment.
    pub deployment: &'a Deployment,
    /// Its image, if that is to be the root; verified, if that is demanded.
    pub image: Option<Image>,
    /// The mounts. If there is an image, they are settled when that is mounted.
    pub plan: Plan,
}

impl<'a> Candidate<'a> {
    /// Verifies and plans.
    ///
    /// # Errors
    /// As [`Image::open`], [`plan::plan`] and [`Plan::settle`].
    pub fn of(config: &Config, sysroot: &Sysroot, deployment: &'a Deployment) -> Result<Candidate<'a>> {
        let image = Image::open(config, sysroot, deployment)?;
        let mut plan = plan::plan(config, &deployment.facts, image.is_some())?;
        if image.is_none() {
            // What the new root contains is in front of us. An image is looked into when it is mounted.
            let (directory, mut open) = (deployment.handle(), Vec::new());
            let contents = Contents::read(directory, directory, &plan.questions(), &mut open)?;
            open.into_iter().for_each(lookup::leave_open);
            plan = plan.settle(&contents)?;
        }
        Ok(Candidate { deployment, image, plan })
    }

    /// Looks whether everything is there that the mounts are made from, and where they go, without mounting anything.
    ///
    /// # Errors
    /// [`Class::Incomplete`](crate::error::Class::Incomplete)
    pub fn look_for_sources(&self, sysroot: &Sysroot) -> Result<()> {
        let objects = Source::Physical(b"ostree/repo/objects".to_vec());
        let of_the_image = self.image.is_some().then_some(&objects);
        let certain = self.plan.steps.iter().filter(|step| step.only_if.is_none());
        // Of an image's contents nothing is known.
        let places = certain.clone().map(|step| &*step.at).filter(|at| lookup::is_name(at));
        for place in places.filter(|_| self.image.is_none()) {
            if lookup::kind_at(self.deployment.handle(), place) != Ok(Some(FileType::Directory)) {
                let directory = format!("/{} of the deployment", place.escape_ascii());
                return Err(plan::incomplete(&self.plan.name, &directory));
            }
        }
        for source in certain.map(|step| &step.source).chain(of_the_image) {
            let (directory, path, of) = match source {
                Source::Deployment(path) => (self.deployment.handle(), path.as_bytes(), "deployment"),
                Source::Physical(path) => (sysroot.handle(), &path[..], "physical root"),
                _ => continue,
            };
            if lookup::kind_beneath(directory, path) != Ok(Some(FileType::Directory)) {
                let directory = format!("/{} of the {of}", path.escape_ascii());
                return Err(plan::incomplete(&self.plan.name, &directory));
            }
        }
        Ok(())
    }
}
