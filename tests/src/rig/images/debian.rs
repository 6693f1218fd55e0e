//! What is in the images, and how they are put together from Debian packages.
//!
//! Not a Debian with a server in it: of the unpacked packages only the programs, the libraries that the dynamic loader
//! says they need, and their data are taken, so that bundles of them are tens, not hundreds, of megabytes (LLVM, Perl
//! and locales stay out; PostgreSQL does without its JIT when that is absent). busybox gives the entry scripts a shell.
//! Nothing is installed and no package script runs.

use super::run::{Context, RigError, output, pipe, run};
use std::collections::BTreeSet;
use std::env::consts::ARCH;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything that decides what the images hold.
pub(super) const SOURCES: &[&str] = &[include_str!("debian.rs"), POSTGRES_ENTRY, REDIS_ENTRY];

const POSTGRES_ENTRY: &str = include_str!("postgres.sh");
const REDIS_ENTRY: &str = include_str!("redis.sh");

const SUITE: &str = "bookworm";
/// Where programs look for the dynamic loader, which is a link, and the loader.
#[cfg(target_arch = "x86_64")]
const LOADER: (&str, &str) = ("lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
#[cfg(target_arch = "aarch64")]
const LOADER: (&str, &str) = ("lib/ld-linux-aarch64.so.1", "lib/aarch64-linux-gnu/ld-linux-aarch64.so.1");
const PACKAGES: &str = "postgresql,redis-server,nginx,busybox-static";

/// What an image takes from the unpacked packages, by paths without the leading slash.
struct Recipe {
    name: &'static str,
    /// Programs and plug-ins: taken with the libraries that they link to.
    programs: &'static [&'static str],
    /// Files and folders taken as they are.
    data: &'static [&'static str],
    /// Empty folders.
    folders: &'static [&'static str],
    /// Symbolic links, and what they lead to.
    links: &'static [(&'static str, &'static str)],
    /// The unprivileged user's name and number.
    user: (&'static str, u32),
    /// The script at `/entry`.
    entry: Option<&'static str>,
    /// The image's configuration, as those Dockerfile instructions that an import takes (STOPSIGNAL is not one).
    config: &'static [&'static str],
}

const THREE_TIER: &[Recipe] = &[
    Recipe {
        name: super::POSTGRES,
        programs: &[
            "usr/lib/postgresql/15/bin/postgres",
            "usr/lib/postgresql/15/bin/initdb",
            "usr/lib/postgresql/15/bin/pg_isready",
            "usr/lib/postgresql/15/bin/pg_dump",
            "usr/lib/postgresql/15/bin/psql",
            "usr/lib/postgresql/15/lib/dict_snowball.so",
            "usr/lib/postgresql/15/lib/libpqwalreceiver.so",
            "usr/lib/postgresql/15/lib/pgoutput.so",
            "usr/lib/postgresql/15/lib/plpgsql.so",
            "usr/bin/setpriv",
        ],
        data: &["usr/share/postgresql/15", "usr/share/zoneinfo"],
        folders: &["var/lib/postgresql/data", "run/postgresql"],
        links: &[("var/run", "/run")],
        user: ("postgres", 999),
        entry: Some(POSTGRES_ENTRY),
        config: &[
            "ENV PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin",
            "ENV PGDATA=/var/lib/postgresql/data",
            "VOLUME /var/lib/postgresql/data",
            "EXPOSE 5432",
            "ENTRYPOINT [\"/entry\"]",
            "CMD [\"postgres\"]",
        ],
    },
    Recipe {
        name: super::REDIS,
        programs: &["usr/bin/redis-server", "usr/bin/redis-cli", "usr/bin/setpriv"],
        data: &[],
        folders: &["data"],
        links: &[],
        user: ("redis", 999),
        entry: Some(REDIS_ENTRY),
        config: &[
            "WORKDIR /data",
            "VOLUME /data",
            "EXPOSE 6379",
            "ENTRYPOINT [\"/entry\"]",
            "CMD [\"redis-server\"]",
        ],
    },
    Recipe {
        name: super::NGINX,
        programs: &["usr/sbin/nginx"],
        data: &["etc/nginx"],
        folders: &["var/lib/nginx", "var/log/nginx", "run"],
        links: &[("var/log/nginx/error.log", "/dev/stderr"), ("var/log/nginx/access.log", "/dev/stdout")],
        user: ("www-data", 33),
        entry: None,
        config: &["EXPOSE 80", "CMD [\"nginx\", \"-g\", \"daemon off;\"]"],
    },
];

/// Makes PostgreSQL, Redis and nginx.
pub(super) fn make_three_tier(label: &str, work: &Path) -> Result<(), RigError> {
    let packages = work.join("packages");
    download(&packages)?;
    let archives = packages.join("var/cache/apt/archives");
    let root = work.join("root");
    for entry in fs::read_dir(&archives).context("list", &archives)? {
        let file = entry.context("list", &archives)?.path();
        // The two largest, and nothing that is taken needs them.
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".deb") && !name.starts_with("libllvm") && !name.contains("perl") {
            run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&root))?;
        }
    }
    for (number, recipe) in THREE_TIER.iter().enumerate() {
        let stage = work.join(format!("stage-{number}"));
        assemble(recipe, &root, &stage)?;
        import(&stage, recipe.name, label, recipe.config)?;
    }
    Ok(())
}

/// Makes busybox.
pub(super) fn make_busybox(label: &str, work: &Path) -> Result<(), RigError> {
    let mut download = Command::new("apt-get");
    download.args(["--quiet", "--quiet", "download", "busybox-static"]).current_dir(work);
    if run(&mut download).is_err() {
        // Package lists are missing or out of date.
        run(Command::new("apt-get").args(["--quiet", "--quiet", "update"]))?;
        run(&mut download)?;
    }
    let (root, stage) = (work.join("root"), work.join("stage"));
    for entry in fs::read_dir(work).context("list", work)? {
        let file = entry.context("list", work)?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&root))?;
        }
    }
    busybox(&root, &stage)?;
    users(&stage, None)?;
    import(&stage, super::BUSYBOX, label, &["CMD [\"sh\"]"])
}

/// Downloads the packages and all that they depend on; `debootstrap` is installed if it is missing.
fn download(to: &Path) -> Result<(), RigError> {
    install_debootstrap()?;
    let include = format!("--include={PACKAGES}");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--download-only", "--variant=minbase", &include, SUITE]).arg(to);
    // This machine's own mirror, where there is one; else debootstrap's.
    debootstrap.args(mirror());
    run(&mut debootstrap)
}

/// Installs `debootstrap` where it is missing.
pub(super) fn install_debootstrap() -> Result<(), RigError> {
    let installed = Command::new("debootstrap").arg("--version").output().is_ok();
    if !installed {
        let install = ["--quiet", "--quiet", "install", "--yes", "--no-install-recommends", "debootstrap"];
        if run(Command::new("apt-get").args(install)).is_err() {
            run(Command::new("apt-get").args(["--quiet", "--quiet", "update"]))?;
            run(Command::new("apt-get").args(install))?;
        }
    }
    Ok(())
}

/// The first archive in this machine's apt sources, if it is a Debian.
pub(super) fn mirror() -> Option<String> {
    let sources = fs::read_to_string("/etc/apt/sources.list.d/debian.sources")
        .or_else(|_| fs::read_to_string("/etc/apt/sources.list"))
        .ok()?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    sources
        .lines()
        .map(words)
        .filter(|words| words.first().is_some_and(|word| word == "URIs:" || word == "deb"))
        .find_map(|words| words.into_iter().find(|word| word.starts_with("http") && word.contains("debian")))
}

/// Lays out an image's files in `stage`.
fn assemble(recipe: &Recipe, root: &Path, stage: &Path) -> Result<(), RigError> {
    busybox(root, stage)?;
    let mut files: BTreeSet<PathBuf> = recipe.programs.iter().chain([&LOADER.1]).map(PathBuf::from).collect();
    for program in recipe.programs {
        files.extend(libraries(root, program)?);
    }
    // Programs and libraries as files, data with its links.
    run(Command::new("cp")
        .args(["--archive", "--dereference", "--parents"])
        .args(files)
        .arg(stage)
        .current_dir(root))?;
    let data = recipe.data.iter().chain([&LOADER.0]);
    run(Command::new("cp").args(["--archive", "--parents"]).args(data).arg(stage).current_dir(root))?;
    for folder in recipe.folders {
        let folder = stage.join(folder);
        fs::create_dir_all(&folder).context("make the folder", &folder)?;
    }
    for (link, target) in recipe.links {
        let link = stage.join(link);
        symlink(target, &link).context("link", &link)?;
    }
    if let Some(script) = recipe.entry {
        write(&stage.join("entry"), script, 0o755)?;
    }
    users(stage, Some(recipe.user))
}

/// What the packages' own dynamic loader would load for `program`, by paths in `root`.
fn libraries(root: &Path, program: &str) -> Result<Vec<PathBuf>, RigError> {
    let search = ["lib", "usr/lib"].map(|folder| root.join(folder).join(format!("{ARCH}-linux-gnu")));
    let list = output(
        Command::new(root.join(LOADER.1))
            .args(["--inhibit-cache", "--library-path"])
            .arg(search.map(|folder| folder.to_string_lossy().into_owned()).join(":"))
            .arg("--list")
            .arg(root.join(program)),
    )?;
    // "libz.so.1 => ROOT/lib/x86_64-linux-gnu/libz.so.1 (0x00007f…)"
    let found = list.split_whitespace().filter_map(|word| Path::new(word).strip_prefix(root).ok());
    Ok(found.map(Path::to_owned).collect())
}

/// busybox and a link for each of its applets.
fn busybox(root: &Path, stage: &Path) -> Result<(), RigError> {
    let bin = stage.join("bin");
    fs::create_dir_all(&bin).context("make the folder", &bin)?;
    let source =
        ["bin/busybox", "usr/bin/busybox"].map(|path| root.join(path)).into_iter().find(|path| path.exists());
    let (source, program) = (source.unwrap_or_else(|| root.join("bin/busybox")), bin.join("busybox"));
    fs::copy(&source, &program).context("copy", &source)?;
    for applet in output(Command::new(&program).arg("--list"))?.lines().filter(|applet| *applet != "busybox")
    {
        let link = bin.join(applet);
        symlink("busybox", &link).context("link", &link)?;
    }
    let tmp = stage.join("tmp");
    fs::create_dir_all(&tmp).context("make the folder", &tmp)?;
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).context("set the mode of", &tmp)
}

/// `/etc/passwd` and `/etc/group`: root, nobody, and the server's own user.
fn users(stage: &Path, own: Option<(&str, u32)>) -> Result<(), RigError> {
    let etc = stage.join("etc");
    fs::create_dir_all(&etc).context("make the folder", &etc)?;
    let all = || [("root", 0), ("nobody", 65534)].into_iter().chain(own);
    let passwd: String = all().map(|(name, id)| format!("{name}:x:{id}:{id}::/:/bin/sh\n")).collect();
    let group: String = all().map(|(name, id)| format!("{name}:x:{id}:\n")).collect();
    write(&etc.join("passwd"), &passwd, 0o644)?;
    write(&etc.join("group"), &group, 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), RigError> {
    fs::write(path, text).context("write", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).context("set the mode of", path)
}

/// Makes an image of one layer. Owners, times and order are fixed, so the same files give the same layer.
pub(super) fn import(stage: &Path, name: &str, label: &str, config: &[&str]) -> Result<(), RigError> {
    fs::set_permissions(stage, fs::Permissions::from_mode(0o755)).context("set the mode of", stage)?;
    let changes = config.iter().chain([&label]).flat_map(|change| ["--change", change]);
    pipe(
        Command::new("tar")
            .args(["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"])
            .arg("--directory")
            .arg(stage)
            .arg("."),
        Command::new("docker").args(["image", "import"]).args(changes).args(["-", name]),
    )
}
