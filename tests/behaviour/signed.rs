//! Signed images, on a kernel that need not have fs-verity: strace answers in its place.
//!
//! Whether the kernel measures and checks is for the QEMU tests to see; here it is which answers lead
//! to which result.

use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::kernel;
use crate::support::promises::{exited, nothing_changed, same};
use crate::support::sandbox::{Edit, Run, SYSROOT, Sandbox};
use crate::support::signed::{BASE, CONFIGURATION, KEYS, Signed, measured, object};
use crate::support::trials::ignorable;
use libtest_mimic::{Completion, Trial};

use crate::setting::*;

/// One disk, and what becomes of it.
struct Case {
    name: &'static str,
    /// What is wrong, if something is.
    wrong: fn(&Signed, &mut Scene),
    status: i32,
    says: &'static [&'static str],
}

struct Scene {
    keys: String,
    commit: Vec<u8>,
    commitmeta: Option<Vec<u8>>,
    /// What the kernel answers when it is to measure the image.
    measured: Measured,
    edits: Vec<Edit>,
}

impl Scene {
    /// The deployment is of a commit that bootc made from the signed one.
    fn import(signed: &Signed, scene: &mut Scene) {
        scene.commit.clone_from(&signed.imported);
        scene.commitmeta = None;
        for (kind, bytes) in [("commit", &signed.commit), ("commitmeta", &signed.commitmeta)] {
            scene.edits.push(Edit::File(format!("{SYSROOT}/{}", object(BASE, kind)), bytes.clone()));
        }
    }
}

enum Measured {
    Digest([u8; 32]),
    Error(&'static str),
}

const CASES: &[Case] = &[
    Case { name: "all is well", wrong: |_, _| {}, status: 0, says: &[] },
    Case {
        name: "the other key, and the right one after it",
        wrong: |signed, scene| scene.keys = signed.keys[1].clone() + &signed.keys[0],
        status: 0,
        says: &[],
    },
    Case {
        name: "a malformed key, and the right one after it",
        wrong: |signed, scene| scene.keys = format!("malformed\n{}", signed.keys[0]),
        status: 0,
        says: &["/etc/ostree/initramfs-root-binding.key: line 1 is not"],
    },
    Case { name: "a commit of bootc's", wrong: Scene::import, status: 0, says: &[] },
    Case {
        name: "a commit of bootc's, made from an unsigned one",
        wrong: |signed, scene| {
            Scene::import(signed, scene);
            scene.edits.pop();
        },
        status: 13,
        says: &["verify the commit abababab", "there is no commitmeta"],
    },
    Case {
        name: "a commit of bootc's, made from nothing",
        wrong: |signed, scene| {
            Scene::import(signed, scene);
            scene.edits.clear();
        },
        status: 13,
        says: &["verify the commit abababab", "the repository does not have it"],
    },
    Case {
        name: "a hotfix nobody signed",
        wrong: |_, scene| {
            let deployment = format!("{SYSROOT}/{}", disk().map_or("", |disk| &disk.deployments[0]));
            scene.edits.push(Edit::Directory(format!("{deployment}/.usr-ovl-work")));
            scene.edits.push(Edit::Directory(format!("{deployment}/.usr-ovl-upper")));
        },
        status: 0,
        says: &["the deployment has a hotfix layer for /usr, and nobody signed that"],
    },
    Case {
        name: "the wrong key",
        wrong: |signed, scene| scene.keys.clone_from(&signed.keys[1]),
        status: 13,
        says: &[
            "verify the commit ",
            "none of the commit's Ed25519 signatures (1, 0 of them malformed)",
            KEYS,
        ],
    },
    Case {
        name: "another commit than the signed one",
        wrong: |_, scene| scene.commit[40] ^= 1,
        status: 13,
        says: &["verify the commit ", "none of the commit's Ed25519 signatures (1, 0 of them malformed)"],
    },
    Case {
        name: "no commitmeta",
        wrong: |_, scene| scene.commitmeta = None,
        status: 13,
        says: &["verify the commit ", "there is no commitmeta"],
    },
    Case {
        name: "commitmeta without a signature",
        wrong: |_, scene| scene.commitmeta = Some(Vec::new()),
        status: 13,
        says: &["verify the commit ", "the commit has no Ed25519 signature"],
    },
    Case {
        name: "a signature that is none",
        wrong: |signed, scene| {
            scene.keys.clone_from(&signed.keys[1]);
            scene.commitmeta = Some(signed.littered.clone());
        },
        status: 0,
        says: &["malformed signatures of the commit ", ": 1, passed over"],
    },
    Case {
        name: "a commit that names no image",
        wrong: |signed, scene| {
            let [commit, commitmeta] = &signed.undigested;
            scene.commit.clone_from(commit);
            scene.commitmeta = Some(commitmeta.clone());
        },
        status: 13,
        says: &["verify the commit ", "it has no composefs digest"],
    },
    Case {
        name: "an image that cannot be measured",
        wrong: |_, scene| scene.measured = Measured::Error("EIO"),
        status: 13,
        says: &["verify the composefs image of debian ", "(EIO)"],
    },
    Case {
        name: "an image without fs-verity",
        wrong: |_, scene| scene.measured = Measured::Error("ENODATA"),
        status: 13,
        says: &["verify the composefs image of debian ", "the image has no fs-verity digest", "(ENODATA)"],
    },
    Case {
        name: "a file system without fs-verity",
        wrong: |_, scene| scene.measured = Measured::Error("ENOTTY"),
        status: 13,
        says: &["verify the composefs image of debian ", "its file system has no fs-verity", "(ENOTTY)"],
    },
    Case {
        name: "a file system made without fs-verity",
        wrong: |_, scene| scene.measured = Measured::Error("EOPNOTSUPP"),
        status: 13,
        says: &["verify the composefs image of debian ", "its file system has no fs-verity", "(EOPNOTSUPP)"],
    },
    Case {
        name: "another image",
        wrong: |signed, scene| {
            let mut digest = signed.digest;
            digest[31] ^= 1;
            scene.measured = Measured::Digest(digest);
        },
        status: 13,
        says: &[
            "verify the composefs image of debian ",
            "the fs-verity digest of the image is ",
            "the signed commit names",
        ],
    },
];

pub fn signed() -> Vec<Trial> {
    let mut trials = Vec::new();
    for setting in Setting::without_mounting() {
        for case in CASES {
            let name = format!("signed: {}: {}", case.name, setting.name());
            trials.push(ignorable(name, move || case.check(setting)));
        }
    }
    trials
}

/// The sandbox of a case, with the command that starts strace in it; and the exit status.
pub fn sandbox(name: &str, setting: Setting, strace: &[String]) -> Result<(Sandbox, i32)> {
    let case = CASES.iter().find(|case| case.name == name).context(name)?;
    Ok((case.sandbox(setting, strace)?, case.status))
}

impl Case {
    fn sandbox(&self, setting: Setting, strace: &[String]) -> Result<Sandbox> {
        let signed = Signed::get()?;
        let mut scene = Scene {
            keys: signed.keys[0].clone(),
            commit: signed.commit.clone(),
            commitmeta: Some(signed.commitmeta.clone()),
            measured: Measured::Digest(signed.digest),
            edits: Vec::new(),
        };
        (self.wrong)(signed, &mut scene);
        let mut sandbox = setting.sandbox(copy()?)?;
        (sandbox.host, sandbox.loop_devices) = (true, true);
        sandbox.edits = scene.edits;
        sandbox.edits.extend([file(CONFIG, CONFIGURATION), file(KEYS, &scene.keys)]);
        let mut put = |kind, bytes: Option<Vec<u8>>| {
            let path = format!("{SYSROOT}/{}", object(&signed.checksum, kind));
            sandbox.edits.extend(bytes.map(|bytes| Edit::File(path, bytes)));
        };
        put("commit", Some(scene.commit));
        put("commitmeta", scene.commitmeta);
        let inject = match scene.measured {
            Measured::Error(error) => format!("inject=ioctl:error={error}:when=1"),
            Measured::Digest(digest) => measured(digest),
        };
        let options = ["-f", "-qq", "-o", "/tmp/trace", "-e", &inject].map(str::to_owned);
        let command = [strace, &options, &setting.way.command(&cmdline()?)].concat();
        let look = "grep -c verity=require /proc/self/mountinfo || true";
        sandbox.runs = vec![Run::of(command), shell(look)];
        Ok(sandbox)
    }

    fn check(&self, setting: Setting) -> Result<Completion> {
        let Some(strace) = strace() else {
            return Ok(Completion::ignored_with("there is no strace"));
        };
        let sandbox = self.sandbox(setting, &strace?)?;
        let outcome = job::run(sandbox)?;
        let [ran, look] = &outcome.runs[..] else { return Err("not two runs".into()) };
        if self.status == 0 && !kernel::checks_digests()? {
            // All is well, but for the kernel.
            exited(ran, 9)?;
            same("hints", &[true], &[ran.stderr.contains("needs Linux 6.6")])?;
            return nothing_changed(&outcome.before, &ran.after).map(|()| Completion::Completed);
        }
        exited(ran, self.status)?;
        match self.says {
            [] => same("messages", &[""], &[ran.stderr.as_str()])?,
            says => one_message(ran, says)?,
        }
        if self.status == 0 {
            same("roots with verity=require", &["1"], &[look.stdout.trim_end()])?;
        } else {
            nothing_changed(&outcome.before, &ran.after)?;
        }
        Ok(Completion::Completed)
    }
}
