//! Bills of bundles that are made here: what is found, what is hidden, and what hostile layers come to.

use std::io::{Cursor, Write as _};

use proptest::prelude::*;
use serde_json::Value;

use super::tape::{Fault, Tape};
use super::*;
use crate::assemble::{ImageInput, LayerInput, assemble, layer_type};
use crate::build::Quiet;
use crate::testing::{Vendor, file as project_file, product};

const STATUS: &str = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc\nVersion: 2.36-9+deb12u14\nDescription: GNU C Library\n continued: line\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: bash\nStatus: install ok installed\nVersion: 1:5.2~rc1\n";

/// A layer with these files; a name that ends with a slash is a folder, content `->x` a link.
fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = ::tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = ::tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some(target) = content.strip_prefix("->") {
            header.set_entry_type(::tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, name, target).unwrap();
        } else if name.ends_with('/') {
            header.set_entry_type(::tar::EntryType::Directory);
            header.set_size(0);
            tar.append_data(&mut header, name, std::io::empty()).unwrap();
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

fn seen(layers: &[Vec<u8>]) -> (Vec<Database>, Vec<Installed>) {
    let mut view = View::new(MAX_KEPT);
    for (number, layer) in layers.iter().enumerate() {
        view.put(number, layer.as_slice()).unwrap();
    }
    view.into_parts(&layers.iter().map(|layer| Digest::of(layer)).collect::<Vec<_>>())
}

fn purls(layers: &[Vec<u8>]) -> Vec<String> {
    seen(layers).1.into_iter().map(|one| one.purl).collect()
}

#[test]
fn every_kind_of_database_is_read() {
    let long = format!("opt/{}/demo-1.0.dist-info/METADATA", "x".repeat(150));
    let found = purls(&[layer(&[
        ("./etc/os-release", "NAME=x\nID=debian\nVERSION_ID=\"12\"\n"),
        ("var/lib/dpkg/status", STATUS),
        ("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12.4\nArchitecture: all\n"),
        ("var/lib/dpkg/status.d/base.md5sums", "Package: no\nVersion: 1\n"),
        (
            "lib/apk/db/installed",
            "C:Q1\nP:musl\nV:1.2.5-r8\nA:x86_64\nL:MIT\no:musl\nF:lib\n\nP:busybox\nV:1.37.0-r12\n",
        ),
        (&long, "Metadata-Version: 2.1\nName: My_Demo\nVersion: 1.0\nLicense: UNKNOWN\n\nName: body\n"),
        (
            "app/node_modules/@scope/pkg/package.json",
            r#"{"name":"@scope/pkg","version":"2.0.0","license":"MIT"}"#,
        ),
        ("app/node_modules/left-pad/package.json", r#"{"name":"left-pad","version":"1.3.0"}"#),
        ("app/node_modules/left-pad/test/package.json", r#"{"name":"inner","version":"1"}"#),
        ("app/node_modules/broken/package.json", "{"),
        ("app/package.json", r#"{"name":"app","version":"1"}"#),
    ])]);
    assert_eq!(
        found,
        [
            "pkg:deb/debian/base-files@12.4?arch=all&distro=debian-12",
            "pkg:deb/debian/bash@1:5.2~rc1?distro=debian-12",
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12",
            "pkg:apk/debian/busybox@1.37.0-r12?distro=debian-12",
            "pkg:apk/debian/musl@1.2.5-r8?arch=x86_64&distro=debian-12",
            "pkg:pypi/my-demo@1.0",
            "pkg:npm/%40scope/pkg@2.0.0",
            "pkg:npm/left-pad@1.3.0",
        ]
    );
}

#[test]
fn higher_layers_replace_hide_and_bury_what_is_below() {
    let status = |name: &str| format!("Package: {name}\nVersion: 1\n");
    let (one, two) = (status("one"), status("two"));
    let below = layer(&[("var/lib/dpkg/status", &one), ("a/x.dist-info/METADATA", "Name: x\nVersion: 1\n")]);
    let top = |files: &[(&str, &str)]| purls(&[below.clone(), layer(files)]);
    let (dpkg, x) = ("pkg:deb/debian/one@1", "pkg:pypi/x@1");
    assert_eq!(top(&[]), [dpkg, x]);
    assert_eq!(top(&[("var/lib/dpkg/status", &two)]), ["pkg:deb/debian/two@1", x]);
    assert_eq!(top(&[("var/lib/dpkg/.wh.status", "")]), [x]);
    assert_eq!(top(&[("a/.wh.x.dist-info", "")]), [dpkg]);
    assert_eq!(top(&[(".wh.a", "")]), [dpkg]);
    assert_eq!(top(&[("var/.wh..wh..opq", "")]), [x]);
    assert!(top(&[(".wh..wh..opq", "")]).is_empty());
    assert_eq!(top(&[("a", "->b")]), [dpkg], "a link in the place of a folder");
    assert_eq!(top(&[("a/", "")]), [dpkg, x], "a folder that is listed again hides nothing");
    assert_eq!(top(&[("a/.wh..wh.plnk", ""), ("b/.wh.a", "")]), [dpkg, x]);
    // Within one layer the order of the entries says nothing.
    let both = ("var/lib/dpkg/status", two.as_str());
    for files in [[both, ("var/.wh..wh..opq", "")], [("var/.wh..wh..opq", ""), both]] {
        assert_eq!(top(&files), ["pkg:deb/debian/two@1", x]);
    }
}

#[test]
fn rpms_database_is_told_of() {
    let (databases, packages) = seen(&[layer(&[("var/lib/rpm/rpmdb.sqlite", "SQLite format 3")])]);
    assert!(packages.is_empty());
    assert_eq!((databases[0].kind, databases[0].read), ("rpm", false));
}

#[test]
fn hostile_layers_are_refused_or_give_nothing_and_take_no_memory() {
    let put = |tar: &[u8], most: usize| View::new(most).put(0, tar);
    let mut header = ::tar::Header::new_gnu();
    header.set_entry_type(::tar::EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let endless = header.as_bytes().to_vec();
    assert!(matches!(put(&endless, MAX_KEPT), Err(Fault::Form("a name is too long"))));
    header.set_size(10);
    assert!(matches!(put(header.as_bytes(), MAX_KEPT), Err(Fault::Form("a header's checksum is wrong"))));
    let whole = layer(&[("var/lib/dpkg/status", STATUS)]);
    assert!(put(&whole[..700], MAX_KEPT).is_err(), "cut");
    let many: String = (0..5000).map(|n| format!("Package: p{n}\nVersion: 1\n\n")).collect();
    let many = layer(&[("var/lib/dpkg/status", &many)]);
    assert!(matches!(put(&many, 1 << 20), Err(Fault::TooMuch)));
    // Replaced a hundred times, it takes the room of once.
    let again: Vec<(&str, &str)> = std::iter::repeat_n(("var/lib/dpkg/status", STATUS), 100).collect();
    assert!(put(&layer(&again), 16 << 10).is_ok());
    let long = format!("Package: {}\nVersion: 1\nJunk: {}\n", "n".repeat(100_000), "j".repeat(1_000_000));
    let name = seen(&[layer(&[("var/lib/dpkg/status", &long)])]).1[0].package.name.len();
    assert_eq!(name, 256);
    for escape in ["../var/lib/dpkg/status", "/var/../../lib/dpkg/status"] {
        let mut header = ::tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..escape.len()].copy_from_slice(escape.as_bytes());
        header.set_size(0);
        header.set_cksum();
        assert!(Tape::new(header.as_bytes().as_slice()).next().unwrap().unwrap().path.is_none());
    }
}

#[test]
fn names_of_posix_and_sizes_of_extensions_count() {
    let mut tar = ::tar::Builder::new(Vec::new());
    let name = format!("{}/demo.dist-info/METADATA", "d/".repeat(120));
    let content = "Name: deep\nVersion: 3\n";
    tar.append_pax_extensions([("path", name.as_bytes()), ("size", b"22")]).unwrap();
    let mut header = ::tar::Header::new_ustar();
    header.set_path("short").unwrap();
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.append(&header, content.as_bytes()).unwrap();
    assert_eq!(purls(&[tar.into_inner().unwrap()]), ["pkg:pypi/deep@3"]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<u8>(), 0..2048), at in 0..4000_usize) {
        drop(View::new(1 << 16).put(0, noise.as_slice()));
        let mut bytes = layer(&[("var/lib/dpkg/status", STATUS), ("a/node_modules/b/package.json", "{}")]);
        let end = (at + noise.len()).min(bytes.len());
        let start = at.min(end);
        bytes[start..end].copy_from_slice(&noise[..end - start]);
        drop(View::new(1 << 16).put(0, bytes.as_slice()));
    }
}

/// A bundle whose only image has these layers: compression, stored bytes, plain bytes.
fn bundle_of(layers: &[(Compression, Vec<u8>, &[u8])]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|(_, _, plain)| Digest::of(plain)).collect();
    let history: Vec<_> = (0..layers.len())
        .map(|step| serde_json::json!({"created_by": format!("test step {step}")}))
        .collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
    });
    let inputs = layers.iter().map(|(compression, stored, plain)| LayerInput {
        media_type: layer_type(*compression),
        digest: Digest::of(stored),
        size: stored.len() as u64,
        unpacked: plain.len() as u64,
        source: Source::Bytes(stored.clone()),
    });
    let image = ImageInput::new("example/hello:1", config.to_string().into_bytes(), inputs.collect());
    let files = vec![project_file("compose.yaml", b"services: {}\n")];
    let draft = assemble(&product(1), files, vec![image]).unwrap();
    Vendor::new("a").bundle_with(draft, |_| {}).bytes()
}

fn bill() -> (Bill, Vec<Vec<u8>>) {
    let plain = layer(&[("var/lib/dpkg/status", STATUS)]);
    let above = layer(&[("x.dist-info/METADATA", "Name: x\nVersion: 1\nLicense: MIT\n")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&above).unwrap();
    let zstd = zstd::encode_all(Cursor::new(&above), 3).unwrap();
    let stored = vec![plain.clone(), gzip.finish().unwrap(), zstd];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.kedge");
    let layers = [
        (Compression::None, stored[0].clone(), plain.as_slice()),
        (Compression::Gzip, stored[1].clone(), &above),
        (Compression::Zstd, stored[2].clone(), &above),
    ];
    std::fs::write(&file, bundle_of(&layers)).unwrap();
    let one = Bill::of(&file, &Quiet).unwrap();
    let again = Bill::of(&file, &Quiet).unwrap();
    for format in [BillFormat::Spdx, BillFormat::CycloneDx] {
        let texts = [&one, &again].map(|bill| bill.document(format, ("t", "1")).to_string());
        assert_eq!(texts[0], texts[1], "the same bundle, the same bill");
    }
    (one, stored)
}

#[test]
fn spdx_has_what_its_specification_demands() {
    let (bill, stored) = bill();
    let document = bill.document(BillFormat::Spdx, ("kedgectl", "1"));
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    assert_eq!(document["dataLicense"], "CC0-1.0");
    assert_eq!(document["SPDXID"], "SPDXRef-DOCUMENT");
    assert!(document["name"].is_string());
    let namespace = document["documentNamespace"].as_str().unwrap();
    assert!(namespace.starts_with("https://") && !namespace.contains('#'));
    let created = document["creationInfo"]["created"].as_str().unwrap();
    assert!(created.len() == 20 && created.ends_with('Z'), "{created}");
    assert!(document["creationInfo"]["creators"][0].as_str().unwrap().starts_with("Tool: "));
    let packages = document["packages"].as_array().unwrap();
    let mut ids = std::collections::BTreeSet::from(["SPDXRef-DOCUMENT"]);
    for package in packages {
        let id = package["SPDXID"].as_str().unwrap();
        let suffix = id.strip_prefix("SPDXRef-").unwrap();
        assert!(suffix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)), "{id}");
        assert!(ids.insert(id), "{id} twice");
        assert!(package["name"].is_string() && package["downloadLocation"] == "NOASSERTION");
        assert_eq!(package["filesAnalyzed"], false);
        for reference in package["externalRefs"].as_array().into_iter().flatten() {
            assert_eq!(reference["referenceCategory"], "PACKAGE-MANAGER");
            assert_eq!(reference["referenceType"], "purl");
            assert!(reference["referenceLocator"].as_str().unwrap().starts_with("pkg:"));
        }
        for checksum in package["checksums"].as_array().into_iter().flatten() {
            assert_eq!(checksum["algorithm"], "SHA256");
            assert_eq!(checksum["checksumValue"].as_str().unwrap().len(), 64);
        }
    }
    let relationships = document["relationships"].as_array().unwrap();
    for one in relationships {
        assert!(["DESCRIBES", "CONTAINS"].contains(&one["relationshipType"].as_str().unwrap()));
        for end in ["spdxElementId", "relatedSpdxElement"] {
            assert!(ids.contains(one[end].as_str().unwrap()), "{one}");
        }
    }
    assert!(relationships.iter().any(|one| one["relationshipType"] == "DESCRIBES"));
    let text = document.to_string();
    assert!(stored.iter().take(1).all(|layer| text.contains(&Digest::of(layer).hex())));
    assert!(
        text.contains("pkg:deb/debian/libc6@")
            && text.contains("pkg:pypi/x@1")
            && text.contains("test step 0")
    );
}

#[test]
fn cyclonedx_has_what_its_specification_demands() {
    let (bill, stored) = bill();
    let document = bill.document(BillFormat::CycloneDx, ("kedgectl", "1"));
    assert_eq!((&document["bomFormat"], &document["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    assert_eq!(document["version"], 1);
    let serial = document["serialNumber"].as_str().unwrap().strip_prefix("urn:uuid:").unwrap();
    assert_eq!(serial.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    let mut ids = std::collections::BTreeSet::new();
    fn check<'a>(component: &'a Value, ids: &mut std::collections::BTreeSet<&'a str>) {
        let kinds = ["application", "container", "library", "file"];
        assert!(kinds.contains(&component["type"].as_str().unwrap()));
        assert!(component["name"].is_string());
        assert!(ids.insert(component["bom-ref"].as_str().unwrap()));
        for hash in component["hashes"].as_array().into_iter().flatten() {
            assert!(hash["alg"] == "SHA-256" && hash["content"].as_str().unwrap().len() == 64);
        }
        for licence in component["licenses"].as_array().into_iter().flatten() {
            assert!(licence["license"]["name"].is_string());
        }
        for property in component["properties"].as_array().into_iter().flatten() {
            assert!(property["name"].is_string() && property["value"].is_string());
        }
        for inner in component["components"].as_array().into_iter().flatten() {
            check(inner, ids);
        }
    }
    check(&document["metadata"]["component"], &mut ids);
    for component in document["components"].as_array().unwrap() {
        check(component, &mut ids);
    }
    for dependency in document["dependencies"].as_array().unwrap() {
        assert!(ids.contains(dependency["ref"].as_str().unwrap()));
        for on in dependency["dependsOn"].as_array().unwrap() {
            assert!(ids.contains(on.as_str().unwrap()));
        }
    }
    let text = document.to_string();
    assert!(stored.iter().all(|layer| text.contains(&Digest::of(layer).hex())));
    assert_eq!(bill.packages(), 3);
}

#[test]
fn what_made_a_layer_is_told_only_where_it_is_certain() {
    let config = |text: &str| created_by(&Source::Bytes(text.as_bytes().to_vec()));
    let steps = r#"{"history":[{"created_by":"RUN a"},{"created_by":"ENV b","empty_layer":true},{}]}"#;
    assert_eq!(config(steps), [Some("RUN a".to_owned()), None]);
    assert!(config("{").is_empty() && config("{}").is_empty());
}
