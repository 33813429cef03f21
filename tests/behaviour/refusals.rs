//! What is refused: with which exit status and message, and that nothing changes.

use crate::support::failure::{Context, Result};
use crate::support::job;
use crate::support::promises::{exited, nothing_changed, same};
use crate::support::sandbox::{Edit, Ground};
use crate::support::trials::trial;
use libtest_mimic::Trial;

use crate::scene::Scene;
use crate::setting::*;

/// Something that must be refused.
struct Refusal {
    name: &'static str,
    /// What is wrong.
    wrong: fn(&mut Scene),
    status: i32,
    /// What the message must say: the operation with its object, the cause.
    says: [&'static str; 2],
}

const SIGNED: &str = "[composefs]\nenabled=signed\n";
const KEYS: &str = "/etc/ostree/initramfs-root-binding.key";
const KEYS_MESSAGE: &str = "read the public keys /etc/ostree/initramfs-root-binding.key";

/// The first public key of RFC 8032, section 7.1.
const KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n";

const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "no ostree=",
        wrong: |scene| scene.cmdline = "quiet".into(),
        status: 4,
        says: ["find the deployment on the kernel command line", "there is no ostree= argument"],
    },
    Refusal {
        name: "ostree= is empty",
        wrong: |scene| scene.cmdline = "ostree= quiet".into(),
        status: 4,
        says: ["find the deployment on the kernel command line", "the ostree= argument is empty"],
    },
    Refusal {
        name: "unknown slot",
        wrong: |scene| scene.cmdline = "androidboot.slot_suffix=_c".into(),
        status: 4,
        says: ["find the deployment on the kernel command line", "_c is neither _a nor _b"],
    },
    Refusal {
        name: "the target is a directory",
        wrong: |scene| scene.edits.push(Edit::Directory(scene.link.clone())),
        status: 7,
        says: ["follow ostree=/ostree/boot.", "it is not a symbolic link"],
    },
    Refusal {
        name: "the argument is a deployment",
        wrong: |scene| scene.cmdline = format!("ostree=/{}", scene.names(0).1),
        status: 7,
        says: ["follow ostree=/ostree/deploy/", "it is not a symbolic link"],
    },
    Refusal {
        name: "the target is a FIFO",
        wrong: |scene| scene.edits.push(Edit::Fifo(scene.link.clone())),
        status: 7,
        says: ["follow ostree=/ostree/boot.", "it is not a symbolic link"],
    },
    Refusal {
        name: "there is no such link",
        wrong: |scene| scene.cmdline = "ostree=/ostree/boot.1/debian/c0ffee/0".into(),
        status: 7,
        says: ["follow ostree=/ostree/boot.1/debian/c0ffee/0", "there is no such link"],
    },
    Refusal {
        name: "the link dangles",
        wrong: |scene| scene.link("../../../deploy/debian/deploy/gone.0"),
        status: 7,
        says: ["follow ostree=/ostree/boot.", "../../../deploy/debian/deploy/gone.0, points at nothing"],
    },
    Refusal {
        name: "the link leads to itself",
        wrong: |scene| scene.link("0"),
        status: 7,
        says: ["follow ostree=/ostree/boot.", "runs in circles"],
    },
    Refusal {
        name: "the link is absolute",
        wrong: |scene| scene.link("/usr"),
        status: 7,
        says: ["follow ostree=/ostree/boot.", "/usr, leads outside the physical root"],
    },
    Refusal {
        name: "the link leads out by ..",
        wrong: |scene| scene.link("../../../../../usr"),
        status: 7,
        says: ["follow ostree=/ostree/boot.", "../../../../../usr, leads outside the physical root"],
    },
    Refusal {
        name: "ostree= leads out by ..",
        wrong: |scene| scene.cmdline = "ostree=/../usr".into(),
        status: 7,
        says: ["follow ostree=/../usr", "leads outside the physical root"],
    },
    Refusal {
        name: "the link leads to no deployment",
        wrong: |scene| scene.link("../../../../boot"),
        status: 7,
        says: ["follow ostree=/ostree/boot.", "/boot, which is no deployment"],
    },
    Refusal {
        name: "the link leads to a file",
        wrong: |scene| scene.link("../../../repo/config"),
        status: 7,
        says: ["follow ostree=/ostree/boot.", "does not lead to a directory"],
    },
    Refusal {
        name: "malformed configuration",
        wrong: |scene| scene.config("[sysroot]\nnonsense\n"),
        status: 5,
        says: ["parse /etc/ostree/prepare-root.conf", "line 2"],
    },
    Refusal {
        name: "configuration in Latin-1",
        wrong: |scene| scene.edits.push(Edit::File(CONFIG.into(), b"# f\xfcr\n".to_vec())),
        status: 5,
        says: ["parse /etc/ostree/prepare-root.conf", "not UTF-8"],
    },
    Refusal {
        name: "configuration with an unknown value",
        wrong: |scene| scene.config("[sysroot]\nreadonly=perhaps\n"),
        status: 5,
        says: ["parse /etc/ostree/prepare-root.conf", "readonly=perhaps is none of"],
    },
    Refusal {
        name: "the configuration is a directory",
        wrong: |scene| scene.edits.push(Edit::Directory(CONFIG.into())),
        status: 5,
        says: ["read /etc/ostree/prepare-root.conf", "(EINVAL)"],
    },
    Refusal {
        name: "the configuration is a FIFO",
        wrong: |scene| scene.edits.push(Edit::Fifo(CONFIG.into())),
        status: 5,
        says: ["read /etc/ostree/prepare-root.conf", "(EINVAL)"],
    },
    Refusal {
        name: "no usr",
        wrong: |scene| scene.remove("usr"),
        status: 8,
        says: ["prepare debian ", "/usr of the deployment is missing"],
    },
    Refusal {
        name: "no etc",
        wrong: |scene| scene.remove("etc"),
        status: 8,
        says: ["prepare debian ", "/etc of the deployment is missing"],
    },
    Refusal {
        name: "no sysroot",
        wrong: |scene| scene.remove("sysroot"),
        status: 8,
        says: ["prepare debian ", "/sysroot of the deployment is missing"],
    },
    Refusal {
        name: "no var to mount on",
        wrong: |scene| {
            scene.remove("var");
            scene.config("[var]\nmount=true\n");
        },
        status: 8,
        says: ["prepare debian ", "/var of the deployment is missing"],
    },
    Refusal {
        name: "no boot to mount on",
        wrong: |scene| {
            scene.remove("boot");
            scene.config("[boot]\nmount=true\n");
        },
        status: 8,
        says: ["prepare debian ", "/boot of the deployment is missing"],
    },
    Refusal {
        name: "no var in the stateroot",
        wrong: |scene| {
            scene.remove("../../var");
            scene.config("[sysroot]\nreadonly=true\n");
        },
        status: 8,
        says: ["prepare debian ", "/ostree/deploy/debian/var of the physical root is missing"],
    },
    Refusal {
        name: "usr is a link",
        wrong: |scene| scene.edits.push(Edit::Link(format!("{}/usr", scene.deployment), "etc".into())),
        status: 8,
        says: ["prepare debian ", "/usr of the deployment is missing or no directory"],
    },
    Refusal {
        name: "not root",
        wrong: |scene| scene.nobody = true,
        status: 3,
        says: ["prepare the root", "only root can mount"],
    },
    Refusal {
        name: "SYSROOT is no mount point",
        wrong: |scene| scene.ground = Some(Ground::Directory),
        status: 6,
        says: ["open the physical root /sysroot", "it is not a mount point"],
    },
    Refusal {
        name: "SYSROOT does not exist",
        wrong: |scene| scene.sysroot = "/nowhere".into(),
        status: 6,
        says: ["open the physical root /nowhere", "(ENOENT)"],
    },
    Refusal {
        name: "SYSROOT is /",
        wrong: |scene| scene.sysroot = "/".into(),
        status: 9,
        says: ["open the physical root /", "it is the root directory of everything that runs"],
    },
    Refusal {
        name: "composefs without an image",
        wrong: |scene| {
            scene.config("[composefs]\nenabled=yes\n");
            scene.remove(".ostree.cfs");
        },
        status: 8,
        says: [
            "open the composefs image .ostree.cfs of debian ",
            "there is none, and the configuration demands",
        ],
    },
    Refusal {
        name: "verity by kernel argument without an image",
        wrong: |scene| {
            scene.cmdline += " ostree.prepare-root.composefs=verity";
            scene.remove(".ostree.cfs");
        },
        status: 8,
        says: [
            "open the composefs image .ostree.cfs of debian ",
            "there is none, and the configuration demands",
        ],
    },
    Refusal {
        name: "the image is a FIFO",
        wrong: |scene| {
            scene.config("[composefs]\nenabled=maybe\n");
            scene.edits.push(Edit::Fifo(scene.image()));
        },
        status: 8,
        says: ["open the composefs image .ostree.cfs of debian ", "EINVAL"],
    },
    Refusal {
        name: "the image is something else",
        wrong: |scene| {
            scene.config("[composefs]\nenabled=yes\n");
            scene.edits.push(Edit::File(scene.image(), vec![0; 8192]));
        },
        status: 8,
        says: ["open the composefs image .ostree.cfs of debian ", "it is not a composefs image"],
    },
    Refusal {
        name: "signed, and there is no key",
        wrong: |scene| scene.config(SIGNED),
        status: 13,
        says: [KEYS_MESSAGE, "there is no such key file"],
    },
    Refusal {
        name: "signed by kernel argument, and there is no key",
        wrong: |scene| scene.cmdline += " ostree.prepare-root.composefs=signed",
        status: 13,
        says: [KEYS_MESSAGE, "there is no such key file"],
    },
    Refusal {
        name: "signed, and there is no usable key",
        wrong: |scene| {
            scene.config(SIGNED);
            scene.edits.push(file(KEYS, "no key\n"));
        },
        status: 13,
        says: [KEYS_MESSAGE, "it has no usable Ed25519 public key: line 1 is not"],
    },
    Refusal {
        name: "the key is on the disk",
        wrong: |scene| {
            scene.config(&format!("{SIGNED}keypath=/sysroot/key\n"));
            scene.edits.push(file("/sysroot/key", KEY));
        },
        status: 5,
        says: ["read the public keys /sysroot/key", "it is on the disk whose contents it is to vouch for"],
    },
    Refusal {
        name: "the key is a link to the disk",
        wrong: |scene| {
            scene.config(SIGNED);
            scene.edits.push(file("/sysroot/key", KEY));
            scene.edits.push(Edit::Link(KEYS.into(), "/sysroot/key".into()));
        },
        status: 5,
        says: [KEYS_MESSAGE, "it is on the disk whose contents it is to vouch for"],
    },
    Refusal {
        name: "signed, and nobody signed the commit",
        wrong: |scene| {
            scene.config(SIGNED);
            scene.edits.push(file(KEYS, KEY));
        },
        status: 13,
        says: ["verify the commit ", "there is no commitmeta"],
    },
    Refusal {
        name: "without overrides no argument switches signatures off",
        wrong: |scene| {
            scene.config(&format!("{SIGNED}[overrides]\nkernel-arguments=none\n"));
            scene.cmdline += " ostree.prepare-root.composefs=0";
        },
        status: 13,
        says: [KEYS_MESSAGE, "there is no such key file"],
    },
    Refusal {
        name: "transient root without composefs",
        wrong: |scene| scene.config("[root]\ntransient=true\n"),
        status: 5,
        says: ["plan the new root", "[root] transient=true needs composefs, and [composefs] enabled is no"],
    },
    Refusal {
        name: "transient root, and maybe composefs, and no image",
        wrong: |scene| {
            scene.config("[root]\ntransient-ro=true\n[composefs]\nenabled=maybe\n");
            scene.remove(".ostree.cfs");
        },
        status: 5,
        says: ["[root] transient-ro=true needs composefs", "enabled=maybe finds no image"],
    },
    Refusal {
        name: "transient root that is and is not writable",
        wrong: |scene| scene.config("[root]\ntransient=true\ntransient-ro=true\n"),
        status: 5,
        says: [
            "obey /etc/ostree/prepare-root.conf",
            "[root] transient=true and [root] transient-ro=true exclude",
        ],
    },
    Refusal {
        name: "transient /var that is not to be mounted",
        wrong: |scene| scene.config("[var]\ntransient=true\nmount=false\n"),
        status: 5,
        says: ["obey /etc/ostree/prepare-root.conf", "[var] transient=true and [var] mount=false exclude"],
    },
    Refusal {
        name: "unknown value of a kernel argument",
        wrong: |scene| scene.cmdline += " ostree.prepare-root.sysroot.readonly=perhaps",
        status: 4,
        says: [
            "read the kernel command line",
            "ostree.prepare-root.sysroot.readonly=perhaps is none of true",
        ],
    },
    Refusal {
        name: "no deployment with that index",
        wrong: |scene| scene.cmdline += " ostree.prepare-root.deployment=7",
        status: 7,
        says: ["find ostree.prepare-root.deployment=7", "none of 1 deployments is meant"],
    },
    Refusal {
        name: "two deployments with that checksum",
        wrong: |scene| {
            let twin = scene.deployment.replace(".0", ".1");
            scene.edits.push(Edit::Directory(twin));
            let checksum = scene.deployment.rsplit('/').next().unwrap_or_default();
            let argument = format!(" ostree.prepare-root.deployment={}", &checksum[..6]);
            scene.cmdline += &argument;
        },
        status: 7,
        says: ["find ostree.prepare-root.deployment=", "2 deployments can be meant"],
    },
    Refusal {
        name: "a name that is too long",
        wrong: |scene| scene.cmdline = format!("ostree=/{}", "x".repeat(300)),
        status: 7,
        says: ["follow ostree=/xxx", "the path cannot be followed"],
    },
    Refusal {
        name: "an image with an impossible block size",
        wrong: |scene| {
            scene.config("[composefs]\nenabled=yes\n");
            let mut image = vec![0; 8192];
            image[..4].copy_from_slice(&0xd078_629a_u32.to_le_bytes());
            image[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
            scene.edits.push(Edit::File(scene.image(), image));
        },
        status: 8,
        says: ["open the composefs image .ostree.cfs of debian ", "its block size is impossible"],
    },
    Refusal {
        name: "no repository for the image",
        wrong: |scene| {
            scene.config("[composefs]\nenabled=yes\n");
            scene.remove("../../../../repo/objects");
        },
        status: 8,
        says: ["prepare debian ", "/ostree/repo/objects of the physical root is missing or no directory"],
    },
    Refusal {
        name: "no /boot to mount",
        wrong: |scene| {
            scene.config("[boot]\nmount=true\n");
            scene.edits.push(Edit::Remove("/sysroot/boot".into()));
        },
        status: 8,
        says: ["prepare debian ", "/boot of the physical root is missing or no directory"],
    },
    Refusal {
        name: "the key file is a directory",
        wrong: |scene| {
            scene.config(SIGNED);
            scene.edits.push(Edit::Directory(KEYS.into()));
        },
        status: 13,
        says: [KEYS_MESSAGE, "(EINVAL)"],
    },
    Refusal {
        name: "signed, and the deployment is not called after a commit",
        wrong: |scene| {
            scene.config(SIGNED);
            scene.edits.push(file(KEYS, KEY));
            let plain =
                scene.deployment.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned() + "/test.0";
            scene.edits.push(Edit::Directory(plain));
            scene.link("../../../deploy/debian/deploy/test.0");
        },
        status: 13,
        says: ["find the commit of the deployment", "debian test.0 is not called after a commit"],
    },
    Refusal {
        name: "signed, and the commit is a FIFO",
        wrong: |scene| {
            scene.config(SIGNED);
            scene.edits.push(file(KEYS, KEY));
            scene.edits.push(Edit::Fifo(scene.commit()));
        },
        status: 13,
        says: ["read /sysroot/ostree/repo/objects/", "(EINVAL)"],
    },
    Refusal {
        name: "signed, and the commit is gone",
        wrong: |scene| {
            scene.config(SIGNED);
            scene.edits.push(file(KEYS, KEY));
            scene.edits.push(Edit::Remove(scene.commit()));
        },
        status: 13,
        says: ["verify the commit ", "the repository does not have it"],
    },
];

pub fn refusals() -> Vec<Trial> {
    let mut trials = Vec::new();
    for setting in Setting::without_mounting() {
        for refusal in REFUSALS {
            let name = format!("refused: {}: {}", refusal.name, setting.name());
            trials.push(trial(name, move || refusal.check(setting)));
        }
    }
    trials
}

/// The names of all refusals.
pub fn names() -> impl Iterator<Item = &'static str> {
    REFUSALS.iter().map(|refusal| refusal.name)
}

/// The scene of a refusal, and its exit status.
pub fn scene(name: &str) -> Result<(Scene, i32)> {
    let refusal = REFUSALS.iter().find(|refusal| refusal.name == name).context(name)?;
    Ok((refusal.scene()?, refusal.status))
}

impl Refusal {
    fn scene(&self) -> Result<Scene> {
        let mut scene = Scene::new()?;
        (self.wrong)(&mut scene);
        Ok(scene)
    }

    fn check(&self, setting: Setting) -> Result<()> {
        let outcome = job::run(self.scene()?.sandbox(setting.shared)?)?;
        let ran = &outcome.runs[0];
        exited(ran, self.status)?;
        nothing_changed(&outcome.before, &ran.after)?;
        same("standard output", &[""], &[ran.stdout.as_str()])?;
        one_message(ran, &self.says)
    }
}
