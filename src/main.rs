//! `ostree-prepare-root SYSROOT [KERNEL_CMDLINE]`: makes an OSTree deployment the root of the
//! system about to boot.
//!
//! It runs once per boot, in the initramfs, after the disk's root file system (the physical root)
//! was mounted at SYSROOT and before init is started from there. [`prepare`] is the whole program:
//! read, resolve, plan, apply, announce.

use prepare_root::cmdline::Cmdline;
use prepare_root::config::{Config, Overrides};
use prepare_root::contents::Contents;
use prepare_root::deployment::Deployment;
use prepare_root::error::{Class, Error, Result};
use prepare_root::image::Image;
use prepare_root::options::{self, Invocation, Options};
use prepare_root::sysroot::Sysroot;
use prepare_root::{journal, kmsg, lookup, mount, plan};
use rustix::io::Errno;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let start = Instant::now();
    kmsg::start(log::LevelFilter::Info);
    let result = options::parse(std::env::args_os().skip(1)).and_then(|invocation| {
        match invocation {
            Invocation::Help => print(options::HELP),
            Invocation::Version => {
                print(concat!("ostree-prepare-root (prepare-root) ", env!("CARGO_PKG_VERSION"), "\n"));
            }
            Invocation::CheckConfig(path) => Config::check(path.as_bytes())?,
            Invocation::Prepare(options) => prepare(&options, start)?,
        }
        Ok(())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::from(error.class() as u8)
        }
    }
}

fn prepare(options: &Options, start: Instant) -> Result<()> {
    // read
    let cmdline = read_cmdline(options)?;
    let config = Config::read(&cmdline)?;
    set_log_level(&cmdline, &config);

    // resolve
    let sysroot = Sysroot::open(&options.sysroot)?;
    let Some(deployment) = Deployment::resolve(&config, &sysroot)? else {
        let done = format!("{sysroot} already is the root that {} names: nothing to do", config.target);
        log::info!("{done}");
        print(&if options.json { "{\"prepared\":true}\n".into() } else { done + "\n" });
        return Ok(());
    };
    let image = Image::open(&config, &sysroot, &deployment)?;

    // plan
    let mut plan = plan::plan(&config, &deployment.facts, image.is_some())?;
    if image.is_none() {
        // What the new root contains is in front of us. An image is looked into when it is mounted.
        let contents = Contents::read(deployment.handle(), deployment.handle(), &plan.questions())?;
        plan = plan.settle(&contents, &deployment.facts)?;
    }
    if options.dry_run {
        print(&if options.json { plan::print::json(&plan) + "\n" } else { plan::print::text(&plan) });
        return Ok(());
    }
    for warning in &plan.warnings {
        log::warn!("{warning}");
    }
    log::debug!("{}", plan::print::text(&plan));

    // apply
    if !rustix::process::geteuid().is_root() {
        return Err(Error::found(
            Class::Permission,
            "prepare the root",
            "only root can mount; --dry-run needs no rights",
        ));
    }
    let disk = mount::Disk { sysroot: &sysroot, deployment: &deployment, image: image.as_ref() };
    let plan = mount::apply(plan, disk, options.kernel)?;

    // announce
    journal::announce(&plan, &sysroot);
    log::info!(
        "{} is the new root at {} ({} us)",
        plan.name,
        sysroot,
        u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
    );
    Ok(())
}

fn read_cmdline(options: &Options) -> Result<Cmdline> {
    if let Some(cmdline) = &options.cmdline {
        return Ok(Cmdline::new(cmdline.as_slice()));
    }
    let bytes = lookup::read(c"/proc/cmdline").and_then(|bytes| bytes.ok_or(Errno::NOENT));
    bytes.map(Cmdline::new).map_err(|errno| {
        Error::errno(Class::Cmdline, "read /proc/cmdline", errno)
            .hint("mount proc on /proc and run this again")
    })
}

fn set_log_level(cmdline: &Cmdline, config: &Config) {
    if config.overrides == Overrides::None {
        return;
    }
    let name = "ostree.prepare-root.log";
    let Some(value) = cmdline.value(name) else { return };
    match kmsg::level(value) {
        Some(level) => log::set_max_level(level),
        None => log::warn!("{name}={} is none of debug, info, warn, error: ignored", value.escape_ascii()),
    }
}

/// Prints an answer. If nobody can read it, there is nobody to tell.
fn print(text: &str) {
    let _ = lookup::write_all(rustix::stdio::stdout(), text.as_bytes());
}
