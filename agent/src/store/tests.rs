use super::*;

fn deployment(name: &str) -> DeploymentRecord {
    DeploymentRecord {
        name: name.to_owned(),
        product: "hello".to_owned(),
        stream: "stable".to_owned(),
        parameters: Default::default(),
        active: None,
        previous: None,
        newest: 0,
        operation: None,
        last_problem: None,
        since: String::new(),
        requests: Vec::new(),
    }
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = Store::open(&folder.path().join("store")).unwrap();
        store.commit_blocking(Writes::new().put(&deployment("a")).unwrap()).unwrap();
    }
    let store = Store::open(&folder.path().join("store")).unwrap();
    assert_eq!(store.get::<DeploymentRecord>("a").unwrap(), Some(deployment("a")));
    assert_eq!(store.get::<DeploymentRecord>("b").unwrap(), None);
}

#[test]
fn a_scan_keeps_to_its_table_and_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut writes = Writes::new();
    for number in [10, 9, 1] {
        writes = writes.put(&EventRecord { number, event: String::new() }).unwrap();
    }
    store.commit_blocking(writes.put(&deployment("event")).unwrap()).unwrap();
    let numbers: Vec<_> = store.scan::<EventRecord>("").unwrap().into_iter().map(|r| r.number).collect();
    assert_eq!(numbers, [1, 9, 10]);
    assert_eq!(store.last::<EventRecord>().unwrap().unwrap().number, 10);
}

#[test]
fn a_damaged_store_is_a_typed_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = Store::open(folder.path()).unwrap();
        store.commit_blocking(Writes::new().put(&deployment("a")).unwrap()).unwrap();
    }
    // Damage of every kind must end in a typed error or in nothing lost, never in a panic or in silence.
    let db = folder.path().join("db");
    let whole = std::fs::read(&db).unwrap();
    std::fs::write(&db, vec![0xff; whole.len()]).unwrap();
    let problem = Store::open(folder.path()).err().unwrap();
    assert_eq!(problem.code, codes::STORE_DAMAGED);
    assert!(problem.message.contains("db"), "{problem}");
}

#[test]
fn a_record_of_a_newer_form_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.inner.db().unwrap().insert("deployment/a", &b"{\"v\":99,\"r\":{}}"[..]).unwrap();
    assert!(store.get::<DeploymentRecord>("a").is_err());
}

#[test]
fn a_second_agent_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = FolderLock::take(folder.path()).unwrap();
    assert_eq!(FolderLock::take(folder.path()).unwrap_err().code, codes::ALREADY_RUNNING);
    drop(first);
    FolderLock::take(folder.path()).unwrap();
}

#[test]
fn a_file_is_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    write_file(&path, b"one", 0o600).unwrap();
    write_file(&path, b"two", 0o600).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn after_a_failed_write_the_store_is_opened_anew_and_holds_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.commit_blocking(Writes::new().put(&deployment("a")).unwrap()).unwrap();
    // What a failed write does: the handle that refuses from then on is let go.
    *store.inner.open.write().unwrap() = None;
    assert_eq!(store.get::<DeploymentRecord>("a").unwrap(), Some(deployment("a")));
    store.commit_blocking(Writes::new().put(&deployment("b")).unwrap()).unwrap();
    assert_eq!(store.scan::<DeploymentRecord>("").unwrap().len(), 2);
}
