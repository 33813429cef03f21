//! A whole disk of any contents, configuration and command line: whatever is on it, the program
//! neither panics nor hangs, and either nothing has changed or the new root is of the disk alone.

mod description;
mod world;

use description::Description;
use prepare_root::candidate::Candidate;
use prepare_root::choice::Choice;
use prepare_root::cmdline::Cmdline;
use prepare_root::config::{Config, Origin};
use prepare_root::error::{Class, Error};
use prepare_root::explain;
use prepare_root::sysroot::Sysroot;
use prepare_root::{error, mount, plan};
use world::{SYSROOT, State, World};

/// One input. With `DESCRIBE` in the environment, tells what the bytes stand for, and how it ended.
pub fn run(bytes: &[u8]) {
    let description = Description::read(bytes);
    let describe = std::env::var_os("DESCRIBE").is_some();
    if describe {
        eprintln!("{description:#?}");
    }
    let world = World::get();
    let disk = world.build(&description);
    let start = State::now();
    let first = prepare(&description);
    let between = State::now();
    check(&disk, &start, &first, &between);
    if let Err(error) = &first {
        explain(&description, error);
        State::now().assert_same(&between);
    }
    // Whatever the first run left, the second has to keep to the same.
    let second = prepare(&description);
    if describe {
        eprintln!("first run: {first:?}\nsecond run: {second:?}");
    }
    check(&disk, &between, &second, &State::now());
    world.clear();
}

/// How a run ended that did not fail.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// There is a new root.
    Prepared,
    /// The root was prepared already.
    NothingToDo,
}

/// The five verbs of `main.rs`, without what is printed there.
fn prepare(description: &Description) -> error::Result<End> {
    let cmdline = Cmdline::new(&*description.cmdline);
    let config = Config::parse(&cmdline, "the file", &description.config)?;
    mount::recover()?;

    let sysroot = Sysroot::open(SYSROOT.as_bytes())?;
    let Some(choice) = Choice::of(&config, &sysroot).transpose() else { return Ok(End::NothingToDo) };
    let make_root = |choice: &Choice| {
        let Candidate { deployment, image, mut plan } = Candidate::of(&config, &sysroot, &choice.deployment)?;
        plan.traces.instead = choice.instead.as_ref().map(|instead| instead.record(&plan.name));
        world::assert_printable(&plan::print::text(&plan));
        world::assert_printable(&plan::print::json(&plan));
        let disk = mount::Disk { sysroot: &sysroot, deployment, image: image.as_ref() };
        mount::apply(plan, disk, description.kernel).map(|_| End::Prepared)
    };
    let failed = choice.as_ref().ok().map(|choice| choice.deployment.facts.name.clone());
    let mut result = choice.and_then(|choice| make_root(&choice));
    let Err(error) = &result else { return result };
    for other in Choice::others(&config, &sysroot, failed.as_ref(), &error.clone()) {
        match make_root(&other) {
            Err(error) if error.class().is_about_the_deployment() => {
                world::assert_printable(&error.to_string())
            }
            end => {
                result = end;
                break;
            }
        }
    }
    result
}

/// What is said of a refusal, for people and for programs.
fn explain(description: &Description, error: &Error) {
    let cmdline = Cmdline::new(&*description.cmdline);
    let explanation = explain::refusal(Origin::Initramfs, &cmdline, SYSROOT.as_bytes(), error.clone());
    world::assert_printable(&explanation.text());
    world::assert_printable(&explanation.json());
}

fn check(disk: &world::Disk, before: &State, result: &error::Result<End>, after: &State) {
    match result {
        Ok(End::Prepared) => {
            after.assert_complete();
            after.assert_only_of(disk, before);
        }
        Ok(End::NothingToDo) => after.assert_same(before),
        Err(error) => {
            world::assert_printable(&error.to_string());
            assert_ne!(error.class(), Class::Undo, "{error}");
            after.assert_same(before);
        }
    }
    disk.assert_outside_untouched();
}
