//! Each check, on a made-up host that lacks one thing.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use kedge_proto::v1::EngineStatus;

use super::*;
use crate::engine::ImageStore;
use crate::engine::fake::Fake;

const NOW: &str = "2026-06-01T00:00:00Z";

struct Made {
    folder: tempfile::TempDir,
    place: Place,
}

/// A host on which nothing is wrong.
fn healthy() -> Made {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        state_dir: folder.path().join("state"),
        engine: format!("unix://{}", folder.path().join("docker.sock").display()),
        ..Config::default()
    };
    let mut place = Place::new(config, Arc::new(Fake::new()), NOW.parse().unwrap());
    place.root = folder.path().join("root");
    let made = Made { folder, place };
    made.write("/etc/passwd", "root:x:0:0::/:/bin/sh\nkedge:x:990:990::/:/bin/sh\n");
    made.write("/etc/group", "docker:x:101:ada,kedge\n");
    made.write("/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
    made.write("/proc/sys/net/ipv4/ip_forward", "1\n");
    made.write("/proc/meminfo", "MemTotal:  2048000 kB\nMemFree: 1 kB\nMemAvailable:  1024000 kB\n");
    made.write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
    made
}

impl Made {
    fn write(&self, path: &str, text: &str) {
        let path = self.place.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        // As packages lay things out, whatever this process's umask.
        self.allow(&path, 0o644);
        for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.place.root)) {
            self.allow(folder, 0o755);
        }
    }

    async fn line(&self, id: &str) -> Line {
        let checks: Vec<_> = all().into_iter().filter(|check| check.id() == id).collect();
        run(&checks, &self.place).await.remove(0)
    }

    async fn verdict(&self, id: &str) -> Verdict {
        self.line(id).await.verdict
    }

    /// Docker's socket as its packages make it, of the group docker, in which this user has to be to give it away.
    fn listen(&self) -> std::os::unix::net::UnixListener {
        let path = self.folder.path().join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        if is_root() {
            chown(&path, None, Some(101)).unwrap();
        }
        self.allow(&path, 0o660);
        self.write("/etc/group", &format!("docker:x:{}:ada,kedge\n", gid(&path)));
        listener
    }

    fn allow(&self, path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// Makes the user kedge one of this number.
    fn agent_is(&self, uid: u32) {
        self.write("/etc/passwd", &format!("root:x:0:0::/:/bin/sh\nkedge:x:{uid}:990::/:/bin/sh\n"));
    }

    fn install_unit(&self) {
        let shipped = include_str!("../../../packaging/systemd/kedge.service");
        self.write("/lib/systemd/system/kedge.service", shipped);
    }

    fn lay_over(&self, text: &str) {
        self.write("/etc/systemd/system/kedge.service.d/override.conf", text);
    }

    /// A status of an agent to which the engine is so.
    fn status(&mut self, reachable: bool, problem: &str) {
        let engine = EngineStatus { reachable, problem: problem.to_owned(), ..EngineStatus::default() };
        self.place.status = Some(HostStatus { engine: Some(engine), ..HostStatus::default() });
    }
}

fn gid(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().gid()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn there_are_sixteen_checks_with_names_of_their_own_and_a_healthy_host_passes_all() {
    let made = healthy();
    let _docker = made.listen();
    let lines = run(&all(), &made.place).await;
    let names: std::collections::BTreeSet<_> = lines.iter().map(|line| line.id).collect();
    assert_eq!((lines.len(), names.len()), (16, 16));
    for line in lines {
        assert!(line.verdict < Verdict::Bad, "{line:?}");
        assert_eq!(line.mend.is_some(), line.verdict == Verdict::Warning, "{line:?}");
    }
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_bad_in_its_checks_and_does_not_hold_up_the_others() {
    let mut made = healthy();
    made.place.engine = Arc::new(crate::engine::docker::Docker::at(made.place.config.engine.clone()));
    assert_eq!(made.verdict("socket").await, Verdict::Bad);
    assert_eq!(made.verdict("engine").await, Verdict::Bad);
    assert_eq!(made.verdict("storage").await, Verdict::Skipped);
    assert_eq!(made.verdict("kernel").await, Verdict::Good);
}

#[tokio::test]
async fn an_agent_outside_of_the_sockets_group_is_told() {
    let made = healthy();
    let _docker = made.listen();
    let socket = made.folder.path().join("docker.sock");
    let gid = gid(&socket);
    assert_eq!(made.verdict("socket").await, Verdict::Good);
    for (groups, passwd_gid, told) in [
        (format!("engine:x:{gid}:ada\ndocker:x:4711:kedge\n"), 990, Some("usermod -aG engine kedge")),
        (format!("engine:x:{gid}:ada,kedge\ndocker:x:4711:\n"), 990, None),
        (format!("engine:x:{gid}:\n"), gid, None),
    ] {
        made.write("/etc/group", &groups);
        made.write("/etc/passwd", &format!("kedge:x:990:{passwd_gid}::/:/bin/sh\n"));
        let mend = made.line("socket").await.mend;
        assert_eq!(mend.is_some(), told.is_some(), "{groups}: {mend:?}");
        assert!(told.is_none_or(|told| mend.unwrap().contains(told)));
    }
    // Not of the user's own, but of its unit.
    made.write("/etc/group", &format!("engine:x:{gid}:\n"));
    made.agent_is(990);
    made.install_unit();
    assert_eq!(made.verdict("socket").await, Verdict::Bad);
    made.lay_over("[Service]\nSupplementaryGroups=engine\n");
    assert_eq!(made.verdict("socket").await, Verdict::Good);
    made.lay_over("[Service]\nUser=root\n");
    assert_eq!(made.verdict("socket").await, Verdict::Good);
    made.lay_over("");
    // Open to all, and to its owner alone.
    made.allow(&socket, 0o666);
    assert_eq!(made.verdict("socket").await, Verdict::Good);
    made.allow(&socket, 0o600);
    assert!(made.line("socket").await.mend.unwrap().contains("SocketGroup=docker"));
    if is_root() {
        made.allow(&socket, 0o660);
        chown(&socket, None, Some(0)).unwrap();
        made.write("/etc/group", "root:x:0:\n");
        assert!(made.line("socket").await.mend.unwrap().contains("SocketGroup=docker"));
    }
    made.write("/etc/passwd", "root:x:0:0::/:/bin/sh\n");
    made.write("/lib/systemd/system/kedge.service", "");
    assert_eq!(made.verdict("socket").await, Verdict::Good, "without a user kedge nobody is judged");
}

#[tokio::test]
async fn an_engine_that_the_agent_cannot_reach_is_bad_in_the_agents_words() {
    let mut made = healthy();
    let _docker = made.listen();
    made.status(false, "unix:///run/other.sock does not answer");
    let line = made.line("socket").await;
    assert_eq!(line.verdict, Verdict::Bad);
    assert!(line.saw.contains("unix:///run/other.sock does not answer"), "{line:?}");
    made.status(true, "");
    assert_eq!(made.verdict("socket").await, Verdict::Good);
}

#[tokio::test]
async fn a_socket_that_the_sandbox_hides_is_bad() {
    let mut made = healthy();
    for folder in ["/home/ops", "/root", "/run/user/1000"] {
        made.place.config.engine = format!("unix://{folder}/docker.sock");
        assert!(!made.line("socket").await.saw.contains("ProtectHome"), "there is no unit");
        made.install_unit();
        let line = made.line("socket").await;
        assert_eq!(line.verdict, Verdict::Bad);
        assert!(line.mend.unwrap().contains("ProtectHome=read-only"), "{folder}");
        for seen in ["ProtectHome=read-only", "ProtectHome=tmpfs\nBindPaths=/home/ops"] {
            made.lay_over(&format!("[Service]\n{seen}\n"));
            assert!(!made.line("socket").await.saw.contains("ProtectHome"), "{seen}");
        }
        made.lay_over("");
        made.write("/lib/systemd/system/kedge.service", "");
    }
}

#[tokio::test]
async fn rules_that_the_agent_does_not_start_with_are_bad_whether_it_answers_or_not() {
    let mut made = healthy();
    made.write("/etc/kedge/guard.toml", "[support]\nmode = 'ask'\n");
    let open = |mode| made.allow(&made.place.path("/etc/kedge/guard.toml"), mode);
    open(0o644);
    assert_eq!(made.verdict("agent").await, Verdict::Skipped, "neither unit nor agent");
    made.agent_is(4711);
    open(0o600);
    let line = made.line("agent").await;
    assert!(line.verdict == Verdict::Bad && line.saw.contains("kedge cannot read /etc/kedge"), "{line:?}");
    open(0o644);
    made.allow(&made.place.path("/etc/kedge"), 0o700);
    assert_eq!(made.verdict("agent").await, Verdict::Bad);
    made.allow(&made.place.path("/etc/kedge"), 0o755);
    made.write("/etc/kedge/guard.toml", "[suport]\nmode = 'ask'\n");
    for answers in [false, true] {
        if answers {
            made.status(true, "");
        }
        let line = made.line("agent").await;
        assert_eq!(line.verdict, Verdict::Bad);
        assert!(line.saw.contains("line 1") && line.saw.contains("suport"), "{line:?}");
    }
}

#[tokio::test]
async fn rules_in_a_home_are_hidden_from_the_service() {
    let mut made = healthy();
    made.place.config.guard = "/home/ops/guard.toml".into();
    made.write("/home/ops/guard.toml", "");
    assert_eq!(made.verdict("agent").await, Verdict::Skipped);
    made.install_unit();
    assert!(made.line("agent").await.saw.contains("ProtectHome"));
}

#[tokio::test]
async fn an_installed_agent_that_does_not_answer_is_a_warning() {
    let mut made = healthy();
    assert_eq!(made.verdict("agent").await, Verdict::Skipped);
    made.install_unit();
    let line = made.line("agent").await;
    assert_eq!((line.verdict, line.saw.as_str()), (Verdict::Warning, "the agent does not answer"));
    assert!(line.mend.unwrap().contains("journalctl -u kedge"));
    made.status(true, "");
    assert_eq!(made.verdict("agent").await, Verdict::Good);
}

#[tokio::test]
async fn containers_that_selinux_does_not_confine_are_told() {
    let made = healthy();
    made.write("/sys/fs/selinux/enforce", "1");
    let line = made.line("confinement").await;
    assert_eq!(line.verdict, Verdict::Warning);
    assert!(line.saw.contains("does not confine") && line.mend.unwrap().contains("label"));
    let mut made = healthy();
    made.write("/sys/fs/selinux/enforce", "1");
    made.place.engine = Arc::new(crate::engine::docker::Docker::at(made.place.config.engine.clone()));
    assert_eq!(made.verdict("confinement").await, Verdict::Skipped, "who does not answer is not judged");
}

#[tokio::test]
async fn with_containerds_image_store_its_disk_is_looked_at_too() {
    let mut made = healthy();
    let fake = Fake::new();
    fake.set_store(ImageStore::Containerd);
    made.place.engine = Arc::new(fake);
    assert_eq!(disk::folders(&made.place).await.len(), 2);
    let containerd = made.place.path("/var/lib/containerd");
    std::fs::create_dir_all(&containerd).unwrap();
    assert!(disk::folders(&made.place).await.contains(&containerd));
    made.place = Place {
        root: made.place.root,
        ..Place::new(made.place.config, Arc::new(Fake::new()), made.place.now)
    };
    assert!(!disk::folders(&made.place).await.contains(&containerd), "images are the engine's own");
}

#[tokio::test]
async fn what_the_kernel_lacks_is_named() {
    let made = healthy();
    made.write("/proc/sys/net/ipv4/ip_forward", "0\n");
    assert_eq!(made.verdict("kernel").await, Verdict::Bad);
    made.write("/proc/sys/kernel/osrelease", "3.10.0-1160.el7\n");
    assert_eq!(made.verdict("kernel").await, Verdict::Warning);
    made.write("/sys/fs/cgroup/cgroup.controllers", "cpu pids\n");
    assert!(made.line("cgroups").await.saw.contains("memory"));
    std::fs::remove_file(made.place.path("/sys/fs/cgroup/cgroup.controllers")).unwrap();
    made.write("/proc/cgroups", "#subsys_name hierarchy num enabled\nmemory 1 1 1\ncpu 2 1 1\npids 3 1 1\n");
    assert!(made.line("cgroups").await.saw.starts_with("version 1"));
    assert_eq!(made.verdict("cgroups").await, Verdict::Good);
}

#[tokio::test]
async fn too_little_memory_or_disk_is_bad() {
    let mut made = healthy();
    made.write("/proc/meminfo", "MemTotal: 100000 kB\nMemAvailable: 50000 kB\n");
    assert_eq!(made.verdict("memory").await, Verdict::Bad);
    made.place.config.limits.reserve_bytes = u64::MAX / 2;
    assert_eq!(made.verdict("disk").await, Verdict::Bad);
}

#[tokio::test]
async fn a_state_folder_that_forgets_or_is_open_to_all_is_bad() {
    let mut made = healthy();
    made.agent_is(rustix::process::geteuid().as_raw());
    std::fs::create_dir_all(&made.place.config.state_dir).unwrap();
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&made.place.config.state_dir, mode(0o755)).unwrap();
    assert!(made.line("files").await.mend.unwrap().contains("chmod 700"));
    std::fs::set_permissions(&made.place.config.state_dir, mode(0o700)).unwrap();
    assert_eq!(made.verdict("files").await, Verdict::Good);
    made.agent_is(4711);
    assert!(made.line("files").await.mend.unwrap().contains("chown -R --from="));
    made.write("/etc/passwd", "root:x:0:0::/:/bin/sh\n");
    assert_eq!(made.verdict("files").await, Verdict::Good, "without a user kedge nobody is judged");
    made.write("/etc/kedge/guard.toml", "");
    std::fs::set_permissions(made.place.path("/etc/kedge/guard.toml"), mode(0o666)).unwrap();
    assert_eq!(made.verdict("files").await, Verdict::Bad);
    if Path::new("/dev/shm").is_dir() {
        made.place.config.state_dir = "/dev/shm".into();
        assert_eq!(made.verdict("state").await, Verdict::Bad);
    }
}

#[tokio::test]
async fn a_state_folder_that_the_unit_does_not_let_the_agent_write_to_is_bad() {
    let mut made = healthy();
    made.place.config.state_dir = "/var/lib/kedge".into();
    made.install_unit();
    assert_ne!(made.verdict("state").await, Verdict::Bad);
    made.place.config.state_dir = "/srv/kedge/state".into();
    let line = made.line("state").await;
    assert_eq!(line.verdict, Verdict::Bad, "{line:?}");
    let mend = line.mend.unwrap();
    let (made_first, then) = mend.split_once("systemctl edit kedge").unwrap();
    assert!(made_first.contains("install -d -o kedge -g kedge -m 700 /srv/kedge/state"), "{mend}");
    assert!(then.contains("ReadWritePaths=/srv/kedge/state"), "{mend}");
    made.status(true, "");
    assert_eq!(
        made.verdict("state").await,
        Verdict::Bad,
        "agent.toml may be newer than the agent that answers"
    );
    let drop_in = "/etc/systemd/system/kedge.service.d/override.conf";
    for (text, verdict_is_bad) in [
        ("[Service]\nReadWritePaths=/srv/other -/srv/kedge\n", false),
        ("[Service]\nReadWritePaths=/srv/kedge\nReadWritePaths=\n", true),
        ("[Service]\nReadWritePaths=/srv/ked\n", true),
        ("[Service]\nProtectSystem=full\n", false),
        // What cannot be told from here is not judged.
        ("[Service]\nReadWritePaths=/srv/other \\\n  /srv/kedge\n", false),
        ("[Service]\nReadWritePaths=\"/srv/kedge\"\n", false),
        ("[Service]\nReadWritePaths=%S/../../srv/kedge\n", false),
        ("[Service]\nStateDirectory=kedge:../../srv/kedge\n", false),
        ("[Service]\nBindPaths=/data/kedge:/srv/kedge\n", false),
        ("[Service]\nTemporaryFileSystem=/srv\n", false),
    ] {
        made.write(drop_in, text);
        assert_eq!(made.verdict("state").await == Verdict::Bad, verdict_is_bad, "{text}");
    }
    // A whole unit of the customer's own takes the place of the shipped one.
    std::fs::remove_file(made.place.path(drop_in)).unwrap();
    made.write("/etc/systemd/system/kedge.service", "[Service]\nExecStart=/usr/bin/kedge agent\n");
    assert_ne!(made.verdict("state").await, Verdict::Bad);
}

#[tokio::test]
async fn rules_that_others_than_root_can_change_are_bad_wherever_they_lie() {
    if !is_root() {
        eprintln!("skipped: what this makes belongs to root only when root runs it");
        return;
    }
    let mut made = healthy();
    made.place.config.guard = "/srv/rules/guard.toml".into();
    made.place.config_file = "/srv/conf/agent.toml".into();
    for path in ["/srv/rules/guard.toml", "/srv/conf/agent.toml"] {
        made.write(path, "");
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        for path in Path::new(path).ancestors().take(2) {
            let there = made.place.path(path);
            let before = std::fs::metadata(&there).unwrap().permissions();
            std::fs::set_permissions(&there, mode(0o777)).unwrap();
            let line = made.line("files").await;
            assert_eq!(line.verdict, Verdict::Bad);
            assert!(line.saw.starts_with(&format!("{} ", path.display())), "{line:?}");
            std::fs::set_permissions(&there, before).unwrap();
        }
    }
}

#[tokio::test]
async fn rules_behind_a_link_are_judged_where_they_lie() {
    if !is_root() {
        eprintln!("skipped: what this makes belongs to root only when root runs it");
        return;
    }
    let made = healthy();
    made.write("/home/ops/guard.toml", "");
    made.write("/etc/kedge/agent.toml", "");
    let home = made.place.path("/home/ops");
    std::os::unix::fs::symlink(home.join("guard.toml"), made.place.path("/etc/kedge/guard.toml")).unwrap();
    assert_eq!(made.verdict("files").await, Verdict::Good);
    chown(&home, Some(4711), None).unwrap();
    let line = made.line("files").await;
    assert_eq!(line.verdict, Verdict::Bad);
    assert!(line.saw.contains("/home/ops can be changed"), "{line:?}");
}

#[tokio::test]
async fn a_clock_that_cannot_be_right_is_bad() {
    let mut made = healthy();
    made.place.now = "1970-01-02T00:00:00Z".parse().unwrap();
    assert_eq!(made.verdict("clock").await, Verdict::Bad);
    made.place.now = NOW.parse().unwrap();
    let clock = Some(kedge_proto::v1::Clock { suspect: true, behind_seconds: 7200 });
    made.place.status = Some(HostStatus { clock, ..HostStatus::default() });
    assert!(made.line("clock").await.saw.contains("7200"));
}

#[tokio::test]
async fn a_port_in_use_is_bad_and_a_free_one_is_not() {
    let mut made = healthy();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    made.place.ports = vec![taken.local_addr().unwrap().port()];
    assert_eq!(made.verdict("ports").await, Verdict::Bad);
    drop(taken);
    assert_eq!(made.verdict("ports").await, Verdict::Good);
}

#[tokio::test]
async fn a_hub_that_cannot_be_reached_and_one_that_speaks_no_tls_are_bad() {
    let mut made = healthy();
    assert_eq!(made.verdict("hub").await, Verdict::Skipped);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    made.place.hub = Some(format!("https://127.0.0.1:{port}"));
    assert_eq!(made.verdict("dns").await, Verdict::Good);
    assert_eq!(made.verdict("proxy").await, Verdict::Good);
    std::thread::spawn(move || drop(listener.accept()));
    assert_eq!(made.verdict("hub").await, Verdict::Bad);
    made.place.hub = Some("ftp://nowhere".into());
    assert_eq!(made.verdict("dns").await, Verdict::Bad);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_is_ended_and_the_others_are_shown() {
    struct Hangs;
    #[async_trait]
    impl Check for Hangs {
        fn id(&self) -> &'static str {
            "hangs"
        }
        fn what(&self) -> &'static str {
            "Nothing"
        }
        async fn look(&self, _: &Place) -> Finding {
            std::future::pending().await
        }
    }
    let checks: Vec<Box<dyn Check>> = vec![Box::new(Hangs), Box::new(memory::Memory)];
    let lines = run(&checks, &healthy().place).await;
    assert_eq!((lines[0].verdict, lines[1].verdict), (Verdict::Bad, Verdict::Good));
    assert!(lines[0].saw.contains("no answer"));
}
