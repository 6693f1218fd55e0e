//! Package URLs: `pkg:TYPE/NAMESPACE/NAME@VERSION?QUALIFIERS`, as the purl specification spells them.

use super::databases::{Distribution, Ecosystem, Package};
use crate::layout::Image;

/// The package URL of a package of this distribution.
pub(super) fn of(package: &Package, distribution: &Distribution) -> String {
    let version = encode(&package.version);
    match package.ecosystem {
        Ecosystem::Deb => system("deb", "debian", package, distribution),
        Ecosystem::Apk => system("apk", "alpine", package, distribution),
        // The name has one spelling: lower case, and dashes for underscores.
        Ecosystem::Python => {
            format!("pkg:pypi/{}@{version}", encode(&package.name.to_lowercase().replace('_', "-")))
        }
        Ecosystem::Npm => {
            let name: Vec<_> = package.name.split('/').map(encode).collect();
            format!("pkg:npm/{}@{version}", name.join("/").to_lowercase())
        }
    }
}

fn system(kind: &str, usual: &str, package: &Package, distribution: &Distribution) -> String {
    let id = if distribution.id.is_empty() { usual } else { &distribution.id };
    let mut qualifiers = Vec::new();
    if let Some(architecture) = &package.architecture {
        qualifiers.push(format!("arch={}", encode(architecture)));
    }
    if !distribution.version.is_empty() {
        qualifiers.push(format!("distro={}-{}", encode(id), encode(&distribution.version)));
    }
    let more = if qualifiers.is_empty() { String::new() } else { format!("?{}", qualifiers.join("&")) };
    let (id, name) = (encode(&id.to_lowercase()), encode(&package.name.to_lowercase()));
    format!("pkg:{kind}/{id}/{name}@{}{more}", encode(&package.version))
}

/// The package URL of an image: its name, and its manifest's digest as the version.
pub(super) fn of_image(image: &Image) -> String {
    let name = image.reference.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    let (last, tag) = last.split_once(':').unwrap_or((last, ""));
    let repository =
        name.rsplit_once('/').map_or_else(|| last.to_owned(), |(folder, _)| format!("{folder}/{last}"));
    let tag = if tag.is_empty() { String::new() } else { format!("&tag={}", encode(tag)) };
    format!(
        "pkg:oci/{}@{}?arch={}&repository_url={}{tag}",
        encode(&last.to_lowercase()),
        encode(&image.manifest.to_string()),
        encode(&image.platform.architecture),
        encode(&repository).replace("%2F", "/"),
    )
}

/// Percent-encoded but for what the specification lets stand.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
