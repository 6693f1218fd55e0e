//! How good bundles are made bad.

use kedge_bundle::digest::Digest;
use kedge_bundle::envelope::Envelope;
use kedge_bundle::roles::{Release, Role, Root, Sized};
use kedge_bundle::sign::{self, Signer};
use kedge_bundle::tar::{self, BLOCK};
use kedge_bundle::testing::{TestBundle, Vendor, sample};
use serde_json::Value;

/// The number of hostile releases: the next after the one that runs.
pub const NEXT: u64 = super::stage::SEQ + 1;

/// A good bundle.
pub fn good(vendor: &Vendor) -> TestBundle {
    vendor.bundle(NEXT)
}

/// A bundle whose release is signed after it was changed in whatever way.
pub fn release(vendor: &Vendor, change: impl FnOnce(&mut Release)) -> Vec<u8> {
    good(vendor).resigned(Role::Release, &[&vendor.release_key], change).bytes()
}

/// A bundle whose release payload is any text, signed.
pub fn payload(vendor: &Vendor, change: impl FnOnce(&mut String)) -> Vec<u8> {
    let mut bundle = good(vendor);
    let mut text = serde_json::to_string(&bundle.release).expect("JSON");
    change(&mut text);
    let signers = [&vendor.release_key as &dyn Signer];
    bundle.envelope = sign::envelope(Role::Release, text.into_bytes(), &signers).expect("signed").encode();
    bundle.bytes()
}

/// A bundle with any bytes in place of the release document.
pub fn document(vendor: &Vendor, bytes: &[u8]) -> Vec<u8> {
    let mut bundle = good(vendor);
    bundle.envelope = bytes.to_vec();
    bundle.bytes()
}

/// The envelope of a good release, changed.
pub fn envelope(vendor: &Vendor, change: impl FnOnce(&mut Envelope)) -> Vec<u8> {
    let bundle = good(vendor);
    let mut envelope = Envelope::parse(&bundle.envelope).expect("an envelope");
    change(&mut envelope);
    document(vendor, &envelope.encode())
}

/// A bundle with one more root document, changed and signed by these of the old root keys and by others.
pub fn rotated(
    vendor: &Vendor,
    old: &[usize],
    also: &[&dyn Signer],
    change: impl FnOnce(&mut Root),
) -> Vec<u8> {
    let mut root = vendor.roots.last().expect("a root").clone();
    root.version += 1;
    change(&mut root);
    rooted(vendor, &serde_json::to_vec(&root).expect("JSON"), old, also)
}

/// The same with any payload.
pub fn rooted(vendor: &Vendor, payload: &[u8], old: &[usize], also: &[&dyn Signer]) -> Vec<u8> {
    let signers = old.iter().map(|index| &vendor.root_keys[*index] as &dyn Signer);
    let signers: Vec<_> = signers.chain(also.iter().copied()).collect();
    let envelope = sign::envelope(Role::Root, payload.to_vec(), &signers).expect("signed").encode();
    let mut vendor = vendor.clone();
    vendor.envelopes.push(envelope);
    good(&vendor).bytes()
}

/// A bundle of an image whose configuration, manifest and index are changed before everything above them is made to fit
/// again: only the layout's own rules are broken. Further blobs go to the end.
pub fn layout(
    vendor: &Vendor,
    config: impl FnOnce(&mut Value),
    manifest: impl FnOnce(&mut Value),
    index: impl FnOnce(&mut Value),
    further: Vec<Vec<u8>>,
) -> Vec<u8> {
    let bundle = vendor.bundle_with(sample(NEXT), |_| {});
    let image = &bundle.draft.content.images[0];
    let bytes_of = |digest: &Digest| bundle.blob(digest).expect("a blob");
    let edit = |bytes: &[u8], change: Box<dyn FnOnce(&mut Value) + '_>| {
        let mut value: Value = serde_json::from_slice(bytes).expect("JSON");
        change(&mut value);
        serde_json::to_vec(&value).expect("JSON")
    };
    let fit = |descriptor: &mut Value, bytes: &[u8]| {
        // What a case has changed on purpose stays so.
        if descriptor["digest"].is_string() {
            descriptor["digest"] = Digest::of(bytes).to_string().into();
            descriptor["size"] = bytes.len().into();
        }
    };
    let new_config = edit(&bytes_of(&image.config), Box::new(config));
    let new_manifest = edit(
        &bytes_of(&image.manifest),
        Box::new(|value| {
            fit(&mut value["config"], &new_config);
            manifest(value);
        }),
    );
    let new_index = edit(
        &bundle.draft.documents.index,
        Box::new(|value| {
            fit(&mut value["manifests"][0], &new_manifest);
            index(value);
        }),
    );
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    for (blob, _) in &bundle.draft.blobs {
        blobs.push(match blob.digest {
            digest if digest == image.config => new_config.clone(),
            digest if digest == image.manifest => new_manifest.clone(),
            digest => bytes_of(&digest),
        });
    }
    blobs.extend(further);
    let mut documents = bundle.documents();
    documents.index = new_index;
    let mut release = bundle.release.clone();
    release.index = Sized { digest: Digest::of(&documents.index), size: documents.index.len() as u64 };
    release.content_bytes = blobs.iter().map(|blob| blob.len() as u64).sum();
    release.unpacked_bytes = 1 << 20;
    let payload = serde_json::to_vec(&release).expect("JSON");
    documents.release =
        sign::envelope(Role::Release, payload, &[&vendor.release_key]).expect("signed").encode();
    let mut out = Vec::new();
    put(&mut out, "oci-layout", &documents.oci_layout);
    put(&mut out, "index.json", &documents.index);
    put(&mut out, "manifest.json", &documents.manifest);
    for (number, root) in documents.roots.iter().enumerate() {
        put(&mut out, &format!("kedge/root/{}.json", number + 1), root);
    }
    put(&mut out, "kedge/release.json", &documents.release);
    for blob in blobs {
        put(&mut out, &format!("blobs/sha256/{}", Digest::of(&blob).hex()), &blob);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

/// Adds an entry.
pub fn put(out: &mut Vec<u8>, name: &str, content: &[u8]) {
    out.extend_from_slice(&tar::header(name, content.len() as u64));
    out.extend_from_slice(content);
    out.resize(out.len() + tar::padding(content.len() as u64), 0);
}

/// A layer with one executable file.
pub fn program(name: &str, content: &[u8]) -> Vec<u8> {
    let mut out = forged(name, content.len() as u64, |block| block[100..108].copy_from_slice(b"0000755\0"));
    out.extend_from_slice(content);
    out.resize(out.len() + tar::padding(content.len() as u64) + 2 * BLOCK, 0);
    out
}

/// A header that was changed, its checksum made right again.
pub fn forged(name: &str, size: u64, change: impl FnOnce(&mut [u8; BLOCK])) -> Vec<u8> {
    let mut block = tar::header(name, size);
    change(&mut block);
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.to_vec()
}

/// Offset of the header of the entry whose name ends so.
///
/// # Panics
/// When there is none.
pub fn entry(bytes: &[u8], name: &str) -> usize {
    let mut at = 0;
    loop {
        let block: &[u8; BLOCK] = bytes[at..at + BLOCK].try_into().expect("a block");
        let found = tar::parse(block).expect("a good header").unwrap_or_else(|| panic!("no entry {name}"));
        if found.name.ends_with(name) {
            return at;
        }
        at += BLOCK + usize::try_from(found.size).expect("small") + tar::padding(found.size);
    }
}

/// The whole entry at an offset, padding included.
///
/// # Panics
/// When there is none.
pub fn span(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let block: &[u8; BLOCK] = bytes[at..at + BLOCK].try_into().expect("a block");
    let size = tar::parse(block).expect("a good header").expect("an entry").size;
    at..at + BLOCK + usize::try_from(size).expect("small") + tar::padding(size)
}

/// A good bundle's bytes with something put before an entry.
pub fn inserted(vendor: &Vendor, before: &str, what: &[u8]) -> Vec<u8> {
    let mut bytes = good(vendor).bytes();
    let at = entry(&bytes, before);
    bytes.splice(at..at, what.iter().copied());
    bytes
}

/// A good bundle's bytes, changed.
pub fn altered(vendor: &Vendor, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = good(vendor).bytes();
    change(&mut bytes);
    bytes
}
