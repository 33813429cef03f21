//! The explanation: `--explain`, and what follows the message of a refusal.

use crate::refusals;
use crate::scene::Scene;
use crate::setting::*;
use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::promises::{exited, nothing_changed, same};
use crate::support::sandbox::{Edit, Ground, HOST_USR, PRODUCT, Ran, Run, SYSROOT};
use crate::support::sysroots::Kind;
use crate::support::trials::trial;
use libtest_mimic::Trial;
use prepare_root::gvariant::{Value, dictionary};
use serde_json::Value as Json;

const COLUMNS: usize = 80;
const LINES: usize = 24;

const TWO: Kind = Kind { deployments: 2, ..Kind::PLAIN };

type Check = fn() -> Result<()>;

pub fn explanation() -> Vec<Trial> {
    let checks: [(&str, Check); 12] = [
        ("fits on a screen with two deployments", || fits(&[])),
        ("fits on a screen with twenty deployments", || fits(&twenty()?)),
        ("with --json has the documented members", members),
        ("is the same for nobody, and changes nothing", unprivileged),
        ("on a disk that is mounted read-only", readonly_disk),
        ("shows no name as it is", hostile_names),
        ("is not hidden by a long version", long_version),
        ("shows what was asked for among twenty", asked_among_twenty),
        ("says whose boots failed", failed_boots),
        ("without a deployment", no_deployment),
        ("with a malformed configuration", malformed_configuration),
        ("without /proc", no_proc),
    ];
    let mut trials: Vec<Trial> =
        checks.map(|(name, check)| trial(format!("explanation: {name}"), check)).into();
    for name in refusals::names() {
        trials.push(trial(format!("explanation: status: {name}"), move || same_status(name)));
    }
    for damage in DAMAGES {
        trials.push(trial(format!("explanation: advice: {}", damage.name), move || damage.is_mended()));
    }
    trials
}

/// A run of `--explain` in the scene.
fn explain(scene: &Scene, json: bool) -> Vec<String> {
    let json = json.then_some("--json");
    let options = [PRODUCT, "--explain"].into_iter().chain(json);
    options.chain([&*scene.sysroot, &scene.cmdline]).map(str::to_owned).collect()
}

fn explained(scene: &Scene, json: bool) -> Result<Ran> {
    let mut sandbox = scene.sandbox(false)?;
    sandbox.runs = vec![Run { arguments: explain(scene, json), nobody: scene.nobody }];
    let mut outcome = job::run(sandbox)?;
    let ran = outcome.runs.pop().context("run it")?;
    nothing_changed(&outcome.before, &ran.after)?;
    same("standard error", &[""], &[ran.stderr.as_str()])?;
    Ok(ran)
}

fn parsed(ran: &Ran) -> Result<Json> {
    serde_json::from_str(&ran.stdout).context(format!("parse {}", ran.stdout))
}

/// The explanation that follows the message of a refusal.
fn after_the_message(ran: &Ran) -> Result<&str> {
    let begin = "ostree-prepare-root: What was asked for:\n";
    let at = ran.stderr.find(begin).context(format!("find the explanation in {:?}", ran.stderr))?;
    Ok(&ran.stderr[at..])
}

/// Deployments that were not written completely.
fn twenty() -> Result<Vec<Edit>> {
    let scene = Scene::on(TWO)?;
    let (_, deployment) = scene.names(0);
    let folder = deployment.rsplit_once('/').context("find the folder of deployments")?.0;
    let name = |number: usize| format!("{SYSROOT}/{folder}/{:064x}.0", number);
    Ok((0..18).map(|number| Edit::Directory(name(number))).collect())
}

fn fits(edits: &[Edit]) -> Result<()> {
    let long = format!("[composefs]\nenabled=yes\nkeypath=/{}\n", "long/".repeat(30));
    let wide = "ostree.prepare-root.etc.transient=1 ".repeat(8);
    let mut scenes = Vec::new();
    for (config, arguments) in [("", ""), (&*long, &*wide)] {
        for directory in ["usr", "etc", ".ostree.cfs"] {
            let mut scene = Scene::on(TWO)?;
            scene.edits.extend_from_slice(edits);
            scene.config(config);
            scene.cmdline += &format!(" {arguments}");
            scene.remove(directory);
            scenes.push(scene);
        }
    }
    let mut assessed = Scene::on(TWO)?;
    assessed.edits.extend_from_slice(edits);
    assessed.edits.push(assessment(&assessed, &"failed ".repeat(100))?);
    assessed.config(&long);
    assessed.cmdline += &format!(" {wide}");
    assessed.remove("usr");
    scenes.push(assessed);
    let mut nothing = Scene::on(TWO)?;
    nothing.edits.extend_from_slice(edits);
    nothing.cmdline = "quiet".into();
    scenes.push(nothing);
    for scene in &scenes {
        fit(&explained(scene, false)?.stdout)?;
        let mut outcome = job::run(scene.sandbox(false)?)?;
        let ran = outcome.runs.pop().context("run it")?;
        if ran.status != Some(0) {
            fit(after_the_message(&ran)?)?;
        }
    }
    Ok(())
}

fn fit(text: &str) -> Result<()> {
    // Neither what is to be typed nor the message may be cut off. They go on in the next row.
    let whole = |line: &str| line.starts_with("    ostree");
    let long = |line: &&str| line.chars().count() > COLUMNS && !whole(line);
    same("lines that are too long", &[], &text.lines().filter(long).collect::<Vec<_>>())?;
    let rows: usize = text.lines().map(|line| line.chars().count().div_ceil(COLUMNS).max(1)).sum();
    if rows <= LINES { Ok(()) } else { Err(format!("{rows} rows:\n{text}")) }
}

fn keys(value: &Json) -> Result<Vec<&str>> {
    Ok(value.as_object().context("find an object")?.keys().map(String::as_str).collect())
}

fn members() -> Result<()> {
    let mut scene = Scene::on(TWO)?;
    scene.config("[sysroot]\nreadonly=true\n");
    scene.remove("usr");
    let ran = explained(&scene, true)?;
    exited(&ran, 8)?;
    let json = parsed(&ran)?;
    let all = ["asked", "remarks", "refusal", "physical-root", "deployments", "boot-links", "more", "advice"];
    same("members", &all, &keys(&json)?)?;
    same("of asked", &["setting", "source"], &keys(&json["asked"][0])?)?;
    same("of refusal", &["exit-status", "message", "hint"], &keys(&json["refusal"])?)?;
    same("of physical-root", &["source", "mounted", "type", "options"], &keys(&json["physical-root"])?)?;
    let deployment = [
        "index",
        "stateroot",
        "deployment",
        "version",
        "boot-link",
        "same-kernel",
        "asked-for",
        "assessment",
        "usable",
        "problem",
    ];
    let deployments = json["deployments"].as_array().context("find the deployments")?;
    same("deployments", &[2], &[deployments.len()])?;
    for (index, found) in deployments.iter().enumerate() {
        same("of a deployment", &deployment, &keys(found)?)?;
        same("index", &[index as u64], &[found["index"].as_u64().context("find the index")?])?;
        same("stateroot", &["debian"], &[found["stateroot"].as_str().unwrap_or_default()])?;
        let asked = found["boot-link"].as_str() == Some(scene.names(0).0);
        same("asked for", &[asked], &[found["asked-for"].as_bool().unwrap_or(!asked)])?;
        same("has a problem", &[asked], &[found["problem"].is_string()])?;
        same("is usable", &[!asked], &[found["usable"].as_bool().unwrap_or(asked)])?;
    }
    same("exit status in it", &[8], &[json["refusal"]["exit-status"].as_i64().unwrap_or(-1)])?;
    same("mounted", &[SYSROOT], &[json["physical-root"]["mounted"].as_str().unwrap_or_default()])?;
    same("source of the first", &["kernel argument"], &[json["asked"][0]["source"].as_str().unwrap_or("")])?;
    let source = json["asked"][1]["source"].as_str().unwrap_or_default();
    same("source of the second", &["/etc/ostree/prepare-root.conf line 2"], &[source])?;

    let well = explained(&Scene::on(TWO)?, true)?;
    exited(&well, 0)?;
    same("refusal when all is well", &[true], &[parsed(&well)?["refusal"].is_null()])
}

fn unprivileged() -> Result<()> {
    let mut scene = Scene::on(TWO)?;
    scene.config("[composefs]\nenabled=yes\n");
    scene.remove(".ostree.cfs");
    let privileged = explained(&scene, false)?;
    let nobody = explained(&Scene { nobody: true, ..scene }, false)?;
    exited(&privileged, 8)?;
    exited(&nobody, 8)?;
    same("explanation", &[privileged.stdout], &[nobody.stdout])
}

fn readonly_disk() -> Result<()> {
    let scene = Scene::on(TWO)?;
    let ground = Ground::Disk { mounted: scene.disk.mounted.clone(), readonly: true, hardened: true };
    let ran = explained(&Scene { ground: Some(ground), ..scene }, false)?;
    exited(&ran, 0)?;
    let says = ran.stdout.contains(" on /sysroot: ext4, ro,nosuid,nodev,noexec");
    same("is the disk's mount shown", &[true], &[says])
}

/// A commit whose version is this.
fn commit(version: &str) -> Vec<u8> {
    // `(a{sv}aya(say)sstayay)`: metadata; no parent, nothing related, neither subject nor body; time;
    // no tree. Then where each ends that varies in length, from the last but one.
    let mut bytes = dictionary([("version", Value::Str(version.into()))]);
    let metadata = bytes.len();
    bytes.extend(b"\0\0");
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend([0; 8]);
    let tree = bytes.len();
    let ends = [tree, metadata + 2, metadata + 1, metadata, metadata, metadata];
    bytes.extend(ends.iter().map(|&end| u8::try_from(end).unwrap_or(u8::MAX)));
    bytes
}

fn hostile_names() -> Result<()> {
    let hostile = "a\x1b[2J\x07\nWhat to do:\n  rm -rf\u{9b}31m\u{202e}";
    let mut scene = Scene::on(TWO)?;
    scene.edits.push(Edit::Directory(format!("{SYSROOT}/ostree/deploy/{hostile}/deploy/{hostile}.0")));
    scene.edits.push(Edit::File(scene.commit(), commit(hostile)));
    scene.config(&format!("[{}]\nkey\x1b[2J=\x1b[2J\n", "x\u{202e}"));
    scene.cmdline += " ostree.prepare-root.x=\x1b[2J";
    scene.remove("usr");
    let refused = job::run(scene.sandbox(false)?)?.runs.pop().context("run it")?;
    exited(&refused, 8)?;
    let mut sandbox = scene.sandbox(false)?;
    sandbox.runs = [false, true].map(|json| Run::of(explain(&scene, json))).into();
    let mut runs = job::run(sandbox)?.runs;
    runs.push(refused);
    for ran in &runs {
        exited(ran, 8)?;
        let raw = |letter: &char| (*letter != '\n' && letter.is_control()) || !letter.is_ascii();
        let found: Vec<String> = format!("{}{}", ran.stdout, ran.stderr)
            .chars()
            .filter(raw)
            .map(|letter| format!("{letter:?}"))
            .collect();
        same("letters that are printed as they are", &[], &found)?;
    }
    let [text, json, refused] = &runs[..] else { return Err("not three runs".into()) };
    for text in [&text.stdout, &refused.stderr] {
        same("is the name shown", &[true], &[text.contains(r"a\x1b[2J\x07\n")])?;
        let advice = text.lines().filter(|line| line.ends_with("What to do:"));
        same("times there is advice", &[1], &[advice.count()])?;
    }
    let json = parsed(json)?;
    let versions: Vec<&str> = json["deployments"]
        .as_array()
        .context("find the deployments")?
        .iter()
        .filter_map(|row| row["version"].as_str())
        .collect();
    same("versions", &[hostile.as_bytes().escape_ascii().to_string().as_str()], &versions)
}

/// Which deployment can be booted is the most important of all.
fn long_version() -> Result<()> {
    let mut scene = Scene::on(TWO)?;
    let version = "Debian GNU/Linux 13.2 (trixie), built 2026-11-21, for the test of long versions";
    scene.edits.push(Edit::File(scene.commit(), commit(version)));
    scene.remove("usr");
    let ran = explained(&scene, false)?;
    exited(&ran, 8)?;
    for says in [" no: /usr", " yes"] {
        same(says, &[true], &[ran.stdout.contains(says)])
            .map_err(|error| format!("{error}{}", ran.stdout))?;
    }
    Ok(())
}

/// Without boot entries and commits, the deployments are in the order of their names: ours are in the
/// middle.
fn asked_among_twenty() -> Result<()> {
    let mut scene = Scene::on(TWO)?;
    for path in ["boot/loader", "ostree/repo/objects"] {
        scene.edits.push(Edit::Directory(format!("{SYSROOT}/{path}")));
    }
    for (number, edit) in twenty()?.into_iter().enumerate() {
        let Edit::Directory(path) = edit else { continue };
        let digits = if number % 2 == 0 { "/000" } else { "/fff" };
        scene.edits.push(Edit::Directory(path.replace("/000", digits)));
    }
    scene.remove("usr");
    let ran = explained(&scene, false)?;
    exited(&ran, 8)?;
    let asked = ran.stdout.lines().any(|line| line.contains("* ") && line.contains(" no: /usr of the dep"));
    same("is it shown", &[true], &[asked]).map_err(|error| format!("{error}{}", ran.stdout))
}

/// Where `prepare-root-assess-failed.service` writes down how boots of the scene's second deployment failed.
fn assessment(scene: &Scene, text: &str) -> Result<Edit> {
    let (_, deployment) = scene.names(1);
    let name = deployment.rsplit_once('/').context("find the name of the deployment")?.1;
    let path = format!("{SYSROOT}/ostree/deploy/debian/var/lib/prepare-root/assess/debian/{name}");
    Ok(Edit::File(path, text.into()))
}

fn failed_boots() -> Result<()> {
    let mut scene = Scene::on(TWO)?;
    scene.edits.push(assessment(&scene, "3 of 3 boots failed: \x1b[2J\u{202e}.service\nWhat to do:\n")?);
    let ran = explained(&scene, false)?;
    exited(&ran, 0)?;
    fit(&ran.stdout)?;
    let said: Vec<_> = ran.stdout.lines().filter(|line| line.contains("boots failed")).collect();
    same("lines about it", &[1], &[said.len()])?;
    let text = r"0: 3 of 3 boots failed: \x1b[2J\xe2\x80\xae.service";
    same("the whole first line", &[true], &[said[0].starts_with("  debian ") && said[0].ends_with(text)])
        .map_err(|error| format!("{error}{}", ran.stdout))?;
    same("advice", &[false], &[ran.stdout.contains("What to do")])?;
    let json = parsed(&explained(&scene, true)?)?;
    let rows = json["deployments"].as_array().context("find the deployments")?;
    let told: Vec<_> = rows.iter().map(|row| row["assessment"].is_string()).collect();
    let second: Vec<_> = rows.iter().map(|row| row["boot-link"].as_str() == Some(scene.names(1).0)).collect();
    same("whose boots failed", &second, &told)
}

fn no_deployment() -> Result<()> {
    let mut scene = Scene::new()?;
    for name in ["deploy", "boot.0", "boot.1"] {
        let path = format!("{SYSROOT}/ostree/{name}");
        scene.edits.push(Edit::Directory(path));
    }
    let ran = explained(&scene, false)?;
    exited(&ran, 7)?;
    for says in ["  no deployment\n", "boot links: no boot.0; no boot.1", "is it the right one? See root="] {
        same(says, &[true], &[ran.stdout.contains(says)])?;
    }
    let json = parsed(&explained(&scene, true)?)?;
    same("deployments", &[0], &[json["deployments"].as_array().map_or(99, Vec::len)])
}

fn malformed_configuration() -> Result<()> {
    let mut scene = Scene::on(TWO)?;
    scene.config("[sysroot]\nnonsense\n");
    let ran = explained(&scene, false)?;
    exited(&ran, 5)?;
    let name = |index| {
        let (_, deployment) = scene.names(index);
        deployment.rsplit('/').next().and_then(|name| name.get(..12)).unwrap_or("none")
    };
    for says in [name(0), name(1), "line 2 is not a [group]"] {
        same(says, &[true], &[ran.stdout.contains(says)])?;
    }
    let refused = job::run(scene.sandbox(false)?)?.runs.pop().context("run it")?;
    exited(&refused, 5)?;
    same("are there deployments", &[true], &[after_the_message(&refused)?.contains(name(0))])
}

/// A tmpfs hides it, only as long as the program runs.
fn no_proc() -> Result<()> {
    for option in ["", "--explain"] {
        let scene = Scene::on(TWO)?;
        let mut sandbox = scene.sandbox(false)?;
        let busybox = format!("{HOST_USR}/bin/busybox");
        sandbox.runs = vec![shell(&format!(
            "{busybox} mount -t tmpfs tmpfs /proc\n\
             status=0; {PRODUCT} {option} {SYSROOT} '{}' || status=$?\n\
             {busybox} umount /proc\nexit $status",
            scene.cmdline
        ))];
        let outcome = job::run(sandbox)?;
        let ran = &outcome.runs[0];
        exited(ran, 6)?;
        nothing_changed(&outcome.before, &ran.after)?;
        let said = format!("{}{}", ran.stdout, ran.stderr);
        for says in ["/proc", "What was asked for:", "ostree=/ostree/boot."] {
            same(says, &[true], &[said.contains(says)])?;
        }
    }
    Ok(())
}

/// The exit status of `--explain` is that of a boot.
fn same_status(name: &str) -> Result<()> {
    let (scene, status) = refusals::scene(name)?;
    // To say what is wrong needs no rights.
    let status = if status == 3 { 0 } else { status };
    exited(&explained(&scene, false)?, status)?;
    let json = explained(&scene, true)?;
    exited(&json, status)?;
    let refusal = parsed(&json)?["refusal"]["exit-status"].as_i64().unwrap_or(0);
    same("exit status in JSON", &[i64::from(status)], &[refusal])
}

/// Something that the advice gets around.
struct Damage {
    name: &'static str,
    disk: Kind,
    harm: fn(&mut Scene),
    advises: &'static str,
}

const INDEX: &str = "ostree.prepare-root.deployment=";

const DAMAGES: &[Damage] = &[
    Damage { name: "no usr", disk: TWO, harm: |scene| scene.remove("usr"), advises: INDEX },
    Damage {
        name: "no image",
        disk: TWO,
        harm: |scene| {
            scene.config("[composefs]\nenabled=yes\n");
            scene.remove(".ostree.cfs");
        },
        advises: INDEX,
    },
    Damage {
        name: "the only image is damaged",
        disk: Kind::PLAIN,
        harm: |scene| {
            scene.config("[composefs]\nenabled=yes\n");
            scene.edits.push(Edit::File(scene.image(), vec![0; 8192]));
        },
        advises: "ostree.prepare-root.composefs=no",
    },
    Damage { name: "no ostree=", disk: TWO, harm: |scene| scene.cmdline = "quiet".into(), advises: INDEX },
    Damage {
        name: "a link that is not there",
        disk: TWO,
        harm: |scene| scene.cmdline = "ostree=/ostree/boot.1/debian/c0ffee/0".into(),
        advises: INDEX,
    },
    Damage {
        name: "a link that leads nowhere",
        disk: TWO,
        harm: |scene| scene.link("../../../deploy/debian/deploy/gone.0"),
        advises: INDEX,
    },
    Damage {
        name: "an index that is none",
        disk: TWO,
        harm: |scene| scene.cmdline += " ostree.prepare-root.deployment=9",
        advises: INDEX,
    },
    Damage {
        name: "locked, no usr",
        disk: TWO,
        harm: |scene| {
            scene.config("[overrides]\nkernel-arguments=safe\n");
            scene.remove("usr");
        },
        advises: "ostree=/ostree/boot.",
    },
    Damage {
        name: "locked for good, a link that is not there",
        disk: TWO,
        harm: |scene| {
            scene.config("[overrides]\nkernel-arguments=none\n");
            scene.cmdline = "ostree=/ostree/boot.1/debian/c0ffee/0".into();
        },
        advises: "ostree=/ostree/boot.",
    },
    Damage {
        name: "the boot version before, and strict",
        disk: TWO,
        harm: |scene| {
            scene.config("[recovery]\nboot-links=strict\n");
            scene.cmdline = scene.cmdline.replace("/boot.0/", "/boot.9/").replace("/boot.1/", "/boot.9/");
        },
        advises: INDEX,
    },
];

impl Damage {
    /// What the explanation says is typed, by a script, and boots.
    fn is_mended(&self) -> Result<()> {
        let mut scene = Scene::on(self.disk)?;
        (self.harm)(&mut scene);
        let mut sandbox = scene.sandbox(false)?;
        let busybox = format!("{HOST_USR}/bin/busybox");
        let script = format!(
            "if {PRODUCT} {SYSROOT} '{0}' 2> /tmp/said; then exit 90; fi\n\
             typed=$({busybox} sed -n '/What to do:/,$s/^    \\(ostree[^ ]*=[^ ]*\\)$/\\1/p' /tmp/said)\n\
             echo \"$typed\"\n\
             cmdline='{0}'\n\
             if {busybox} grep -q 'in place of' /tmp/said\n\
             then cmdline=$(echo \"$cmdline\" | {busybox} sed \"s/${{typed%%=*}}=[^ ]*//\")\nfi\n\
             exec {PRODUCT} {SYSROOT} \"$cmdline $typed\"",
            scene.cmdline
        );
        sandbox.runs = vec![shell(&script)];
        let ran = job::run(sandbox)?.runs.pop().context("run it")?;
        exited(&ran, 0)?;
        let typed: Vec<&str> = ran.stdout.lines().collect();
        same("advice", &[true], &[typed.len() == 1 && typed[0].starts_with(self.advises)])
            .map_err(|error| format!("{error}{}{}", ran.stdout, ran.stderr))
    }
}
