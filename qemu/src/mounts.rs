//! The mounts of a guest, from its `/proc/self/mountinfo`.

use anyhow::{Result, anyhow};
use std::path::Path;

/// One mount.
#[derive(Debug, Clone)]
pub struct Mount {
    id: u64,
    parent: u64,
    /// The directory of its file system that is mounted.
    pub root: String,
    /// Where it is mounted.
    pub point: String,
    /// Options of this mount.
    pub options: String,
    /// The kind of its file system.
    pub kind: String,
    /// What is mounted, as it was named.
    pub source: String,
    /// Options of its file system.
    pub file_system_options: String,
}

/// All mounts, in the order of the kernel.
#[derive(Debug)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads the lines of a mountinfo file.
    pub fn parse(lines: &[String]) -> Result<Self> {
        let text = lines.join("\n");
        let parser = libmount::mountinfo::Parser::new(text.as_bytes());
        let mut mounts = Vec::new();
        for mount in parser {
            let mount = mount.map_err(|error| anyhow!("mountinfo of the guest: {error}"))?;
            mounts.push(Mount {
                id: mount.mount_id,
                parent: mount.parent_id,
                root: mount.root.to_string_lossy().into_owned(),
                point: mount.mount_point.to_string_lossy().into_owned(),
                options: mount.mount_options.to_string_lossy().into_owned(),
                kind: mount.fstype.to_string_lossy().into_owned(),
                source: mount.mount_source.to_string_lossy().into_owned(),
                file_system_options: mount.super_options.to_string_lossy().into_owned(),
            });
        }
        Ok(Self(mounts))
    }

    /// The mounts at exactly this path; the last one is seen.
    pub fn at(&self, point: &str) -> Vec<&Mount> {
        self.0.iter().filter(|mount| mount.point == point).collect()
    }

    /// Paths with more than one mount, one hiding the other.
    pub fn stacked(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for mount in &self.0 {
            // An autofs is there to be covered by what it mounts.
            let layers = self.at(&mount.point).iter().filter(|mount| mount.kind != "autofs").count();
            if layers > 1 && !found.contains(&mount.point.as_str()) {
                found.push(mount.point.as_str());
            }
        }
        found
    }

    /// The mounts of the disk as an indented tree; those of the kernel's own file systems are left out.
    pub fn tree(&self) -> Vec<[String; 4]> {
        let mut rows = Vec::new();
        let tops = self.0.iter().filter(|mount| !self.0.iter().any(|other| other.id == mount.parent));
        for top in tops {
            self.branch(top, 0, &mut rows);
        }
        rows
    }

    fn branch(&self, mount: &Mount, depth: usize, rows: &mut Vec<[String; 4]>) {
        if mount.is_kernel_own() {
            return;
        }
        let source = format!("{} {}", mount.kind, mount.source);
        let root = mount.root.clone();
        rows.push([
            format!("{}{}", "  ".repeat(depth), mount.point),
            mount.options.clone(),
            source,
            shorten(&root),
        ]);
        // A mount of an initramfs can be its own parent.
        for child in self.0.iter().filter(|child| child.parent == mount.id && child.id != mount.id) {
            self.branch(child, depth + 1, rows);
        }
    }
}

impl Mount {
    /// Whether nothing can be written through it.
    pub fn is_read_only(&self) -> bool {
        self.options.split(',').any(|option| option == "ro")
    }

    fn is_kernel_own(&self) -> bool {
        ["/proc", "/sys", "/dev", "/run", "/tmp"].iter().any(|top| Path::new(&self.point).starts_with(top))
    }
}

/// A deployment's checksum takes the whole line; its first digits tell it apart.
fn shorten(root: &str) -> String {
    let short = |part: &str| match part.split_once('.') {
        Some((sum, serial)) if sum.len() == 64 => format!("{}….{serial}", &sum[..12]),
        _ => part.to_owned(),
    };
    root.split('/').map(short).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::Mounts;

    fn mounts(text: &str) -> Mounts {
        Mounts::parse(&text.lines().map(str::to_owned).collect::<Vec<_>>()).expect("valid mountinfo")
    }

    const TEXT: &str = "\
        24 1 254:0 /ostree/deploy/debian/deploy/ab.0 / rw,relatime - ext4 /dev/vda rw\n\
        25 24 254:0 /ostree/deploy/debian/deploy/ab.0/usr /usr ro,relatime shared:1 master:2 - ext4 /dev/vda rw\n\
        26 24 0:30 / /odd\\040name rw - tmpfs tmpfs rw\n\
        27 24 0:31 / /binfmt rw - autofs systemd-1 rw\n\
        28 27 0:32 / /binfmt rw - binfmt_misc binfmt_misc rw\n";

    #[test]
    fn fields_are_read_and_unescaped() {
        let mounts = mounts(TEXT);
        assert!(mounts.at("/usr")[0].is_read_only());
        assert!(!mounts.at("/")[0].is_read_only());
        assert_eq!(mounts.at("/odd name").len(), 1);
    }

    #[test]
    fn only_real_stacks_count() {
        assert!(mounts(TEXT).stacked().is_empty());
        let doubled = format!("{TEXT}29 25 254:0 / /usr rw - ext4 /dev/vda rw\n");
        assert_eq!(mounts(&doubled).stacked(), ["/usr"]);
    }
}
