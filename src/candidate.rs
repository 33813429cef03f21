//! A deployment that could be booted: found, verified and planned.

use crate::config::Config;
use crate::contents::Contents;
use crate::deployment::Deployment;
use crate::error::Result;
use crate::image::Image;
use crate::plan::{self, Plan};
use crate::sysroot::Sysroot;

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
            let contents = Contents::read(deployment.handle(), deployment.handle(), &plan.questions())?;
            plan = plan.settle(&contents, &deployment.facts)?;
        }
        Ok(Candidate { deployment, image, plan })
    }
}
