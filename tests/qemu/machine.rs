//! An unmodified QEMU with Debian's cloud kernel, its devices vhost-user connections.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cli::lab::service::finish;
use cli::lab::{A, Lab};
use tests::{Linux, SHELL};

/// Where Debian's kernel is, as in a root directory: `boot` and `lib/modules`.
const ROOT: &str = "PORTSPACE_LINUX_ROOT";

/// The kernel's virtio-net and virtio-fs, after what they need.
const MODULES: [&str; 10] = [
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/virtio_net.ko",
    "fs/fuse/fuse.ko",
    "fs/fuse/virtiofs.ko",
];

/// A kernel and a first file system for it.
pub(crate) struct Image {
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Image {
    /// Builds one in the lab.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub(crate) fn build(lab: &Lab) -> Result<Image, String> {
        for program in ["qemu-system-x86_64", "busybox"] {
            let found = finish(lab.a.command("which").arg(program), Duration::from_secs(5));
            if !found.is_ok_and(|ended| ended.ok()) {
                let packages = "qemu-system-x86 busybox-static";
                return Err(format!("there is no {program}: apt-get install {packages}"));
            }
        }
        let (kernel, modules) = kernel()?;
        let directory = lab.a.directory.join("image");
        stage(&directory, &modules, &busybox()?).map_err(|error| {
            format!("no initramfs can be made of {}: {error}", modules.display())
        })?;
        let initramfs = lab.a.directory.join("initramfs");
        let pack = format!(
            "cd {} && busybox find . | busybox cpio -o -H newc > {}",
            directory.display(),
            initramfs.display()
        );
        let packed = finish(lab.a.command("sh").args(["-c", &pack]), Duration::from_secs(20));
        let packed = packed.map_err(|failure| failure.chain())?;
        if packed.ok() { Ok(Image { kernel, initramfs }) } else { Err(packed.why()) }
    }

    /// Boots it with these devices.
    ///
    /// # Panics
    /// If it does not come up.
    pub(crate) fn boot(&self, lab: &Lab, devices: &[String]) -> Linux {
        let mut command = lab.a.command("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "256M"])
            .args(["-object", "memory-backend-memfd,id=memory,size=256M,share=on"])
            .args(["-machine", "q35,memory-backend=memory", "-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
            .args(devices);
        let log = lab.a.directory.join("qemu.log");
        Linux::boot(command, &log).unwrap_or_else(|said| panic!("QEMU: {said}"))
    }
}

/// A network card behind `socket`.
pub(crate) fn card(socket: &Path, mac: [u8; 6], mtu: u16) -> Vec<String> {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    let netdev = ["-netdev".to_owned(), "vhost-user,id=net,chardev=switch".to_owned()];
    let device = format!("virtio-net-pci,netdev=net,mac={mac},host_mtu={mtu}");
    [connection("switch", socket), netdev, option(&device)].concat()
}

/// A file system behind `socket`, which is mounted by the name `tag`.
pub(crate) fn file_system(socket: &Path, tag: &str) -> Vec<String> {
    let device = format!("vhost-user-fs-pci,chardev={tag},tag={tag}");
    [connection(tag, socket), option(&device)].concat()
}

fn connection(name: &str, socket: &Path) -> [String; 2] {
    ["-chardev".into(), format!("socket,id={name},path={}", socket.display())]
}

/// A device without MSI-X, with which QEMU 7.2 follows a null pointer where it has no KVM as soon
/// as the driver of a vhost-user device starts.
fn option(device: &str) -> [String; 2] {
    ["-device".into(), format!("{device},vectors=0")]
}

/// The newest cloud kernel and the directory of its modules.
fn kernel() -> Result<(PathBuf, PathBuf), String> {
    let root = env::var_os(ROOT).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let entries = fs::read_dir(root.join("boot")).into_iter().flatten().flatten();
    let mut releases: Vec<String> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("vmlinuz-").map(String::from))
        .filter(|release| release.ends_with("-cloud-amd64"))
        .collect();
    releases.sort();
    let release = releases.pop().ok_or_else(|| {
        format!(
            "Debian's linux-image-cloud-amd64 is not in {}: unpack it (dpkg -x) and name the \
             directory in {ROOT}",
            root.display()
        )
    })?;
    let modules = root.join("lib/modules").join(&release).join("kernel");
    Ok((root.join("boot").join(format!("vmlinuz-{release}")), modules))
}

/// A busybox that needs no libraries.
fn busybox() -> Result<Vec<u8>, String> {
    let found =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find_map(|path| fs::read(path).ok());
    // A program with libraries names who loads them, near its beginning.
    let is_static = |program: &Vec<u8>| {
        !program[..program.len().min(4096)].windows(8).any(|bytes| bytes == b"ld-linux")
    };
    found
        .filter(is_static)
        .ok_or("there is no static busybox: apt-get install busybox-static".into())
}

/// Lays the first file system out: busybox, the modules and an init.
fn stage(directory: &Path, modules: &Path, busybox: &[u8]) -> std::io::Result<()> {
    for name in ["bin", "dev", "proc", "sys", "tmp", "modules"] {
        fs::create_dir_all(directory.join(name))?;
    }
    fs::write(directory.join("bin/busybox"), busybox)?;
    fs::set_permissions(directory.join("bin/busybox"), PermissionsExt::from_mode(0o755))?;
    let mut load = String::new();
    for module in MODULES {
        let name = module.rsplit('/').next().unwrap_or(module);
        fs::copy(modules.join(module), directory.join("modules").join(name))?;
        load.push_str(&format!("insmod /modules/{name}\n"));
    }
    let init = format!(
        "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
exec </dev/ttyS0 >/dev/ttyS0
stty raw -echo
{load}ip link set lo up
ip link set eth0 up
ip addr add {A}/32 dev eth0
ip route add default dev eth0
{SHELL}"
    );
    fs::write(directory.join("init"), init)?;
    fs::set_permissions(directory.join("init"), PermissionsExt::from_mode(0o755))
}
