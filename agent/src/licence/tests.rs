//! What the rules decide is tested where they are; here is that this host keeps to them.

use kedge_bundle::licence::Limits;
use kedge_bundle::testing::Vendor;

use super::*;

#[test]
fn a_record_that_was_changed_on_disk_is_noticed() {
    let vendor = Vendor::new("licence");
    let licence = sample();
    let file = String::from_utf8(licence.sign(&[&vendor.licence_key]).unwrap()).unwrap();
    let digest = licence::digest(file.as_bytes()).unwrap();
    let record = LicenceRecord {
        product: "hello".into(),
        accepted: Accepted::of(&licence, digest),
        file,
        installed: String::new(),
    };
    assert_eq!(record.licence().unwrap(), licence);
    let more = Licence { limits: Limits { services: Some(500), ..Limits::default() }, ..licence };
    let forged = String::from_utf8(more.sign(&[]).unwrap()).unwrap();
    assert!(LicenceRecord { file: forged, ..record }.licence().is_err());
}

#[test]
fn a_renewal_replaces_the_file_that_containers_read() {
    let folder = tempfile::tempdir().unwrap();
    let vendor = Vendor::new("licence");
    let record = |serial| {
        let licence = Licence { serial, ..sample() };
        let file = String::from_utf8(licence.sign(&[&vendor.licence_key]).unwrap()).unwrap();
        let digest = licence::digest(file.as_bytes()).unwrap();
        LicenceRecord {
            product: "hello".into(),
            accepted: Accepted::of(&licence, digest),
            file,
            installed: String::new(),
        }
    };
    delivery::write(folder.path(), None).unwrap();
    let file = super::folder(folder.path()).join("licence.json");
    assert!(!file.exists(), "there is nothing to deliver yet");
    for serial in [1, 2] {
        delivery::write(folder.path(), Some(&record(serial))).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), record(serial).file);
    }
}

fn sample() -> Licence {
    let time = |text: &str| text.parse().unwrap();
    Licence {
        format: 1,
        id: "north-1".into(),
        serial: 1,
        epoch: 1,
        customer: "North Bank".into(),
        sites: Vec::new(),
        product: "hello".into(),
        issued: time("2026-01-01T00:00:00Z"),
        not_before: time("2026-01-01T00:00:00Z"),
        expires: time("2027-01-01T00:00:00Z"),
        grace_days: 30,
        limits: Limits::default(),
        features: BTreeSet::new(),
    }
}
