//! Archives that were altered, one trick each. Numbers are those of a list of known attacks on archives.

use super::*;

/// What is done to a good bundle's bytes, and a part of the reason that must come back.
#[test]
fn altered_archives_are_refused_with_their_reason() {
    fn insert(bytes: &mut Vec<u8>, before: &str, what: &[u8]) {
        let at = entry(bytes, before);
        bytes.splice(at..at, what.iter().copied());
    }
    fn forged(name: &str, size: u64, change: impl FnOnce(&mut [u8; BLOCK])) -> Vec<u8> {
        let mut block = tar::header(name, size);
        change(&mut block);
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.to_vec()
    }
    fn kind(flag: u8) -> Vec<u8> {
        forged("blobs/sha256/x", 0, |block| {
            block[156] = flag;
            block[157..168].copy_from_slice(b"/etc/passwd");
        })
    }
    type Case = (&'static str, &'static str, fn(&mut Vec<u8>));
    let last = "the last layer";
    let cases: [Case; 32] = [
        ("44 end of which the second half is none", "after the end", |b| {
            let at = b.len() - 1;
            b[at] = 1;
        }),
        ("31 parent folder", "plain relative", |b| {
            insert(b, "index.json", &forged("../index.json", 0, |_| {}))
        }),
        ("31 absolute", "absolute", |b| insert(b, "index.json", &forged("/index.json", 0, |_| {}))),
        ("31 backslash", "backslash", |b| insert(b, "index.json", &forged("a\\b", 0, |_| {}))),
        ("31 NUL in the name", "NUL", |b| insert(b, "index.json", &forged("index.json\0x", 0, |_| {}))),
        ("32 symbolic link", "symbolic link", |b| insert(b, "kedge/release.json", &kind(b'2'))),
        ("33 hard link", "hard link", |b| insert(b, "kedge/release.json", &kind(b'1'))),
        ("34 folder", "folder", |b| insert(b, "kedge/release.json", &kind(b'5'))),
        ("35 device", "character device", |b| insert(b, "kedge/release.json", &kind(b'3'))),
        ("35 FIFO", "FIFO", |b| insert(b, "kedge/release.json", &kind(b'6'))),
        ("36 setuid", "mode", |b| {
            let header = forged("index.json", 0, |block| block[100..108].copy_from_slice(b"0004755\0"));
            insert(b, "index.json", &header);
        }),
        ("37 sparse", "sparse", |b| insert(b, "index.json", &kind(b'S'))),
        ("38 PAX", "PAX header", |b| insert(b, "index.json", &kind(b'x'))),
        ("39 GNU long name", "GNU long name", |b| insert(b, "index.json", &kind(b'L'))),
        ("40 global PAX", "global PAX", |b| insert(b, "oci-layout", &kind(b'g'))),
        ("41 document twice", "comes where", |b| {
            let first = span(b, entry(b, "index.json"));
            let copy = b[first].to_vec();
            insert(b, "manifest.json", &copy);
        }),
        ("41 blob twice", "there twice", |b| {
            let end = b.len() - 2 * BLOCK;
            let first = span(b, entry(b, "release.json"));
            let blob = span(b, first.end);
            let copy = b[blob].to_vec();
            b.splice(end..end, copy);
        }),
        ("41 blob twice, second shorter", "there twice", |b| {
            let first = span(b, entry(b, "release.json"));
            let blob = span(b, first.end);
            let block: [u8; BLOCK] = b[blob.start..blob.start + BLOCK].try_into().unwrap();
            let name = tar::parse(&block).unwrap().unwrap().name;
            let end = b.len() - 2 * BLOCK;
            b.splice(end..end, tar::header(&name, 0));
        }),
        ("42 name in capitals", "comes where", |b| {
            let at = entry(b, "index.json");
            let size = tar::parse(&b[at..at + BLOCK].try_into().unwrap()).unwrap().unwrap().size;
            b.splice(at..at + BLOCK, tar::header("INDEX.JSON", size));
        }),
        ("43 no end", "ends in the middle", |b| b.truncate(b.len() - 2 * BLOCK)),
        ("43 half an end", "ends in the middle", |b| b.truncate(b.len() - BLOCK)),
        ("43 cut in a header", "ends in the middle", |b| b.truncate(entry(b, "index.json") + 100)),
        ("43 cut in a body", "ends in the middle", |b| b.truncate(entry(b, "index.json") + BLOCK + 10)),
        ("43 empty", "ends in the middle", Vec::clear),
        ("43 ends early", "archive ends where", |b| {
            let first = span(b, entry(b, "release.json"));
            b.truncate(first.end);
            b.resize(first.end + 2 * BLOCK, 0);
        }),
        ("44 trailing byte", "after the end", |b| b.push(0)),
        ("44 a third block of zeros", "after the end", |b| b.resize(b.len() + BLOCK, 0)),
        ("45 two archives", "after the end", |b| b.extend_from_within(..)),
        ("46 negative size", "size", |b| {
            insert(b, "index.json", &forged("index.json", 0, |block| block[124..136].fill(0xff)));
        }),
        ("46 bad checksum", "checksum", |b| b[148] ^= 1),
        ("46 huge document", "too large", |b| {
            let at = entry(b, "index.json");
            b.splice(at..at + BLOCK, tar::header("index.json", 1 << 40));
        }),
        ("47 empty entries", "comes where", |b| {
            let many = tar::header("x", 0).repeat(1000);
            insert(b, "index.json", &many);
        }),
    ];
    let vendor = Vendor::new("a");
    for (name, reason, change) in cases {
        let mut bytes = vendor.bundle(3).bytes();
        change(&mut bytes);
        let error = attempt(&bytes, &vendor).expect_err(name);
        assert!(error.to_string().contains(reason), "{name}: {error}");
        assert_eq!(error.code().exit, 10, "{name}: {error}");
    }
    // Padding that is not zero, in the last entry before the end.
    let mut bytes = vendor.bundle(3).bytes();
    let at = entry(&bytes, "oci-layout") + 2 * BLOCK - 1;
    bytes[at] = 1;
    assert!(attempt(&bytes, &vendor).expect_err(last).to_string().contains("padding"));
}

#[test]
fn entries_that_change_places_or_go_missing_are_named() {
    let vendor = Vendor::new("a");
    let good = vendor.bundle(3).bytes();
    let first = span(&good, span(&good, entry(&good, "release.json")).end);
    let second = span(&good, first.end);
    let mut swapped = good[..first.start].to_vec();
    swapped.extend_from_slice(&good[second.clone()]);
    swapped.extend_from_slice(&good[first.clone()]);
    swapped.extend_from_slice(&good[second.end..]);
    assert!(attempt(&swapped, &vendor).unwrap_err().to_string().contains("listed"));
    for name in ["oci-layout", "index.json", "manifest.json", "root/1.json", "release.json"] {
        let mut bytes = good.clone();
        let range = span(&bytes, entry(&bytes, name));
        bytes.drain(range);
        let error = attempt(&bytes, &vendor).unwrap_err();
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    let mut unlisted = good.clone();
    let at = unlisted.len() - 2 * BLOCK;
    let stray = format!("blobs/sha256/{}", Digest::of(b"stray").hex());
    unlisted.splice(at..at, tar::header(&stray, 0));
    let error = attempt(&unlisted, &vendor).unwrap_err();
    assert!(error.to_string().contains("not listed"), "{error}");
    assert_eq!(error.code().id, "KE-2007");
}
