//! What a run that succeeds keeps, says and leaves alone.

use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::promises::{exited, nothing_changed, replaced_only, same};
use crate::support::sandbox::{Edit, Ground, HOST_USR, PRODUCT, Ran, Run, SYSROOT};
use crate::support::sysroots::{Disks, Kind};
use crate::support::trials::{ignorable, trial};
use crate::support::ways::WAYS;
use libtest_mimic::{Completion, Trial};

use crate::setting::*;

/// A trial in a setting.
type Check = fn(Setting) -> Result<()>;

pub fn runs() -> Vec<Trial> {
    let checks: [(&str, Check); 7] = [
        ("a second run changes nothing", second_run),
        ("--unless-booted leaves another deployment alone", unless_booted),
        ("--dry-run tells what is then done", dry_run),
        ("nosuid,nodev,noexec are kept", hardened),
        ("mounts below the physical root are kept", mounts_below),
        ("ostree.prepare-root.debug tells every step", debug),
        ("a FIFO for ostree/repo/config", fifo_for_repo_config),
    ];
    let mut trials = Vec::new();
    for setting in Setting::all() {
        for (name, check) in checks {
            trials.push(trial(format!("{name}: {}", setting.name()), move || check(setting)));
        }
    }
    for (name, config, point, arguments, status) in BREAKS {
        let check = move || break_at(config, point, arguments, *status);
        trials.push(trial(format!("--break-at: {name}"), check));
    }
    for (delay, status) in [(1, 0), (7, 11)] {
        let name = format!("a second run beside one that takes {delay} s ends with {status}");
        trials.push(ignorable(name, move || two_at_once(delay, status)));
    }
    for (shared, change) in [(false, "--make-shared"), (true, "--make-private")] {
        let name = format!("the way back keeps the propagation: {change}");
        trials.push(ignorable(name, move || way_back(shared, change)));
    }
    trials.push(ignorable("kernel log: nothing is lost, priorities are right", kernel_log));
    trials
}

fn second_run(setting: Setting) -> Result<()> {
    let mut sandbox = setting.sandbox(shared_disk()?)?;
    sandbox.runs = vec![setting.run(&cmdline()?); 2];
    let outcome = job::run(sandbox)?;
    let [first, second] = &outcome.runs[..] else { return Err("not two runs".into()) };
    exited(first, 0)?;
    exited(second, 0)?;
    nothing_changed(&first.after, &second.after)
}

fn unless_booted(setting: Setting) -> Result<()> {
    let disk = Disks::get()?.disk(Kind { deployments: 2, ..Kind::PLAIN }, false);
    let ground = Ground::Disk { mounted: disk.mounted.clone(), readonly: false, hardened: false };
    let run = |link: usize, option: Option<&str>| {
        let mut run = setting.run(&format!("ostree={}", disk.boot_links[link]));
        run.arguments.splice(1..1, option.map(str::to_owned));
        run
    };
    let option = Some("--unless-booted");
    let mut sandbox = setting.sandbox(ground)?;
    sandbox.runs = vec![run(0, option), run(1, option), run(1, None)];
    let outcome = job::run(sandbox)?;
    let [first, second, without] = &outcome.runs[..] else { return Err("not three runs".into()) };
    exited(first, 0)?;
    replaced_only(setting.shared, &outcome, first)?;
    exited(second, 0)?;
    nothing_changed(&first.after, &second.after)?;
    exited(without, 6)?;
    nothing_changed(&first.after, &without.after)?;
    one_message(without, &["/sysroot already is the root of another deployment"])
}

fn dry_run(setting: Setting) -> Result<()> {
    let mut sandbox = setting.sandbox(shared_disk()?)?;
    sandbox.edits.push(file(CONFIG, "[sysroot]\nreadonly=true\n[var]\nmount=true\n"));
    let cmdline = cmdline()?;
    let dry = |options: &[&str], nobody| {
        let arguments = [&[PRODUCT], options, &[SYSROOT, &cmdline]].concat();
        Run { arguments: arguments.into_iter().map(str::to_owned).collect(), nobody }
    };
    sandbox.runs = vec![
        dry(&["--dry-run"], false),
        dry(&["--dry-run"], true),
        dry(&["--dry-run", "--json"], false),
        setting.run(&cmdline),
    ];
    let outcome = job::run(sandbox)?;
    let [text, unprivileged, json, real] = &outcome.runs[..] else { return Err("not four runs".into()) };
    for ran in [text, unprivileged, json] {
        exited(ran, 0)?;
        nothing_changed(&outcome.before, &ran.after)?;
        same("standard error", &[""], &[ran.stderr.as_str()])?;
    }
    same("the plan as seen by nobody", &[text.stdout.as_str()], &[unprivileged.stdout.as_str()])?;
    exited(real, 0)?;
    let rows = real.after.mounts.below(SYSROOT);
    let done = points(&rows);

    let plan: serde_json::Value = serde_json::from_str(&json.stdout).context("parse the plan")?;
    let mounts = plan["mounts"].as_array().context("find the mounts of the plan")?;
    let planned: Vec<&str> = mounts.iter().filter_map(|mount| mount["mount"].as_str()).collect();
    same("mounts of the JSON plan", &done, &planned)?;
    let lines = text.stdout.lines().skip(1);
    let planned: Vec<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
    same("mounts of the plan", &done, &planned)
}

/// On purpose not as the reference, which drops them.
fn mounts_below(setting: Setting) -> Result<()> {
    let mut sandbox = setting.sandbox(shared_disk()?)?;
    sandbox.host = true;
    sandbox.edits.push(file(CONFIG, "[sysroot]\nreadonly=true\n"));
    let busybox = format!("{HOST_USR}/bin/busybox");
    let script = format!(
        "{busybox} mount -t tmpfs -o nosuid,nodev,noexec kept /sysroot/tmp\n\
         {busybox} mkdir /sysroot/tmp/deeper\n{busybox} mount -t tmpfs -o noatime deeper /sysroot/tmp/deeper"
    );
    sandbox.runs = vec![shell(&script), setting.run(&cmdline()?)];
    let outcome = job::run(sandbox)?;
    let [prepared, ran] = &outcome.runs[..] else { return Err("not two runs".into()) };
    exited(prepared, 0)?;
    exited(ran, 0)?;
    let rows = ran.after.mounts.below(SYSROOT);
    let kept = row(&rows, "/sysroot/tmp")?;
    let deeper = row(&rows, "/sysroot/tmp/deeper")?;
    // Not read-only, although the physical root is.
    let expected = ["kept rw,nosuid,nodev,noexec,relatime private", "deeper rw,noatime private"];
    let found = [kept, deeper].map(|row| format!("{} {} {}", row.source, row.options, row.propagation));
    same("mounts below the physical root", &expected.map(str::to_owned), &found)
}

fn debug(setting: Setting) -> Result<()> {
    let mut sandbox = setting.sandbox(shared_disk()?)?;
    sandbox.kernel_log = true;
    sandbox.runs = vec![setting.run(&format!("{} ostree.prepare-root.debug", cmdline()?))];
    let outcome = job::run(sandbox)?;
    let ran = &outcome.runs[0];
    exited(ran, 0)?;
    let log: Vec<&str> = ran.kernel_log.iter().map(|(_, text)| text.as_str()).collect();
    for words in [
        "read and resolved after ",
        "planned after ",
        "/usr: the deployment's usr made in ",
        "put in place in ",
    ] {
        let line = log.iter().find(|line| line.contains(words));
        let line = line.context(format!("find {words:?} in the kernel log: {log:?}"))?;
        if !line.contains(" us") {
            return Err(format!("no duration: {line}"));
        }
    }
    Ok(())
}

fn two_at_once(delay: u64, status: i32) -> Result<Completion> {
    let Some(strace) = strace() else {
        return Ok(Completion::ignored_with("there is no strace"));
    };
    let setting = Setting::without_mounting().next().context("a setting")?;
    let mut sandbox = setting.sandbox(shared_disk()?)?;
    sandbox.host = true;
    let program = format!("{PRODUCT} {SYSROOT} '{}'", cmdline()?);
    // The first has the lock when the shell goes on.
    let script = format!(
        "{0} -qq -o /tmp/trace -e trace=flock,openat2 -e inject=openat2:delay_enter={delay}000000:when=1 {program} &\n\
         until {HOST_USR}/bin/busybox grep -q flock /tmp/trace 2> /dev/null; do :; done\n\
         status=0\n{program} || status=$?\nwait $!\nexit $status",
        strace?.join(" ")
    );
    sandbox.runs = vec![shell(&script)];
    let outcome = job::run(sandbox)?;
    let ran = &outcome.runs[0];
    exited(ran, status)?;
    replaced_only(setting.shared, &outcome, ran)?;
    let says = if status == 0 {
        (&ran.stdout, "/sysroot already is the root that ")
    } else {
        (&ran.stderr, "lock /run: another ostree-prepare-root is at work")
    };
    same("what the second says", &[true], &[says.0.contains(says.1)])?;
    Ok(Completion::Completed)
}

/// The physical root is taken off, the new root cannot be put on, and everything is as it was.
fn way_back(shared: bool, change: &str) -> Result<Completion> {
    let Some(strace) = strace() else {
        return Ok(Completion::ignored_with("there is no strace"));
    };
    let strace = strace?;
    let setting = Setting { shared, way: &WAYS[1] };
    let mut sandbox = setting.sandbox(shared_disk()?)?;
    sandbox.host = true;
    let busybox = format!("{HOST_USR}/bin/busybox");
    let prepare = format!(
        "{busybox} mount -t tmpfs first /sysroot/boot\n{busybox} mount -t tmpfs second /sysroot/tmp\n\
         {busybox} mount {change} /sysroot\n{busybox} mount {change} /sysroot/tmp"
    );
    for number in 1..20 {
        let inject = format!("inject=move_mount:error=EIO:when={number}");
        let options = ["-f", "-qq", "-o", "/tmp/trace", "-e", &inject].map(str::to_owned);
        let failing = Run::of([&strace[..], &options, &setting.way.command(&cmdline()?)].concat());
        sandbox.runs = vec![shell(&prepare), failing];
        let outcome = job::run(sandbox.clone())?;
        let [prepared, failed] = &outcome.runs[..] else { return Err("not two runs".into()) };
        exited(prepared, 0)?;
        if failed.stderr.contains("mount the new root at /sysroot: ") {
            exited(failed, 10)?;
            // Not in a peer namespace: it does not hear what happens below a private mount.
            same("mounts", &prepared.after.mounts.everywhere(), &failed.after.mounts.everywhere())?;
            same("/run", &prepared.after.run, &failed.after.run)?;
            return Ok(Completion::Completed);
        }
    }
    Err("the new root was never put on".into())
}

/// Name, configuration, point, kernel command line, exit status.
const BREAKS: &[(&str, &str, &str, &str, i32)] = &[
    ("not asked for", "", "before", "quiet", 1),
    ("before", "", "before", "ostree.prepare-root.break=before", 0),
    ("another point", "", "after", "ostree.prepare-root.break=before", 1),
    ("both", "", "after", "ostree.prepare-root.break=before ostree.prepare-root.break=after", 0),
    ("no such point", "", "after", "ostree.prepare-root.break=later", 1),
    ("locked", "[overrides]\nkernel-arguments=safe\n", "after", "ostree.prepare-root.break=after", 1),
    ("locked up", "[overrides]\nkernel-arguments=none\n", "after", "ostree.prepare-root.break=after", 1),
    ("with a wrong setting", "[composefs]\nenabled=x\n", "before", "ostree.prepare-root.break=before", 0),
    ("with an unreadable file", "nonsense\n", "before", "ostree.prepare-root.break=before", 5),
];

fn break_at(config: &str, point: &str, arguments: &str, status: i32) -> Result<()> {
    let mut sandbox = Setting::without_mounting().next().context("a setting")?.sandbox(shared_disk()?)?;
    sandbox.edits.push(file(CONFIG, config));
    sandbox.runs.push(Run::of([PRODUCT, "--break-at", point, arguments].map(str::to_owned).to_vec()));
    let outcome = job::run(sandbox)?;
    exited(&outcome.runs[0], status)?;
    nothing_changed(&outcome.before, &outcome.runs[0].after)
}

/// On purpose not as the reference, which loses them.
fn hardened(setting: Setting) -> Result<()> {
    let ground = Ground::Disk { mounted: disk()?.mounted.clone(), readonly: false, hardened: true };
    let mut sandbox = setting.sandbox(ground)?;
    sandbox.edits.push(file(CONFIG, "[sysroot]\nreadonly=true\n[var]\nmount=true\n[boot]\nmount=true\n"));
    sandbox.runs.push(setting.run(&cmdline()?));
    let outcome = job::run(sandbox)?;
    exited(&outcome.runs[0], 0)?;
    let rows = outcome.runs[0].after.mounts.below(SYSROOT);
    let expected = ["/", "/boot", "/etc", "/sysroot", "/sysroot/ostree/deploy/debian/var", "/usr", "/var"];
    same("mounts", &expected, &points(&rows))?;
    let lost = rows.iter().find(|row| {
        let options: Vec<&str> = row.options.split(',').collect();
        !["nosuid", "nodev", "noexec"].iter().all(|option| options.contains(option))
    });
    lost.map_or(Ok(()), |row| Err(format!("options were lost: {row}")))
}

/// Opening a FIFO waits for a writer. It must not, and the flag in there was never required.
fn fifo_for_repo_config(setting: Setting) -> Result<()> {
    let mut sandbox = setting.sandbox(copy()?)?;
    sandbox.edits.push(Edit::Fifo(format!("{}/ostree/repo/config", SYSROOT)));
    sandbox.runs.push(setting.run(&cmdline()?));
    let outcome = job::run(sandbox)?;
    exited(&outcome.runs[0], 0)?;
    replaced_only(setting.shared, &outcome, &outcome.runs[0])?;
    one_message(&outcome.runs[0], &["read ostree/repo/config", "(EINVAL)"])
}

fn kernel_log() -> Result<Completion> {
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/kmsg") {
        return Ok(Completion::ignored_with(format!("/dev/kmsg: {error}")));
    }
    const KEYS: usize = 30;
    let setting = Setting { shared: false, way: &WAYS[0] };
    let mut sandbox = setting.sandbox(shared_disk()?)?;
    sandbox.kernel_log = true;
    // A number of ours, since the log is everybody's.
    let ours = format!("unknown-{}", std::process::id());
    let keys: String = (0..KEYS).map(|key| format!("{ours}-{key:02}=1\n")).collect();
    sandbox.edits.push(file(CONFIG, &format!("[sysroot]\n{keys}")));
    let debug = format!("{} ostree.prepare-root.log=debug", cmdline()?);
    let dry_run = [PRODUCT, "--dry-run", SYSROOT, &debug].map(str::to_owned).to_vec();
    sandbox.runs = vec![Run::of(dry_run), setting.run(&debug), setting.run(&debug), setting.run("quiet")];
    let outcome = job::run(sandbox)?;
    let [plan, first, second, refused] = &outcome.runs[..] else { return Err("not four runs".into()) };
    for ran in [plan, first, second] {
        exited(ran, 0)?;
    }
    exited(refused, 4)?;

    let lines = |ran: &Ran, priority: u8, words: &str| {
        let lines = ran.kernel_log.iter().filter(|(p, text)| *p == priority && text.contains(words));
        // NAME[PID]: TEXT
        let text =
            |text: &String| Some(text.strip_prefix("ostree-prepare-root[")?.split_once("]: ")?.1.to_owned());
        lines.filter_map(|(_, line)| text(line)).collect::<Vec<_>>()
    };
    let warnings = lines(first, 4, &ours);
    same("warnings in the kernel log", &[KEYS], &[warnings.len()])?;
    let stderr: Vec<&str> =
        first.stderr.lines().map(|line| line.trim_start_matches("ostree-prepare-root: ")).collect();
    same("warnings", &stderr.iter().map(ToString::to_string).collect::<Vec<_>>(), &warnings)?;
    for line in plan.stdout.lines() {
        same(&format!("is there a debug message {line:?}"), &[1], &[lines(first, 7, line).len()])?;
    }
    same("messages of success", &[1], &[lines(first, 6, "is the new root at /sysroot").len()])?;
    same("messages of nothing to do", &[1], &[lines(second, 6, "nothing to do").len()])?;
    same("messages of failure", &[1], &[lines(refused, 3, "there is no ostree= argument").len()])?;
    Ok(Completion::Completed)
}
