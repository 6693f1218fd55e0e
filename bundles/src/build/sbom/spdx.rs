//! SPDX 2.3, JSON: <https://spdx.github.io/spdx-spec/v2.3/>. The document describes the product, which contains images; an
//! image contains layers and packages.

use serde_json::{Value, json};

use super::{Bill, ImageBill, Installed, purl};
use crate::digest::Digest;

/// Where nobody has said anything.
const UNKNOWN: &str = "NOASSERTION";

/// The document.
pub(super) fn document(bill: &Bill, (tool, version): (&str, &str)) -> Value {
    let release = &bill.release;
    let mut out = Out::default();
    out.relate("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Product");
    out.packages.push(package(
        "SPDXRef-Product",
        &release.product,
        &release.version,
        json!({
            "primaryPackagePurpose": "APPLICATION",
            "supplier": UNKNOWN,
            "comment": format!("stream {}, sequence number {}, release {}", release.stream, release.seq, bill.digest),
        }),
    ));
    for (number, image) in (1..).zip(&bill.images) {
        out.image(number, image);
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{}-{}", release.product, release.version),
        "documentNamespace": format!("https://spdx.org/spdxdocs/{}-{}", release.product, bill.digest.hex()),
        "creationInfo": {
            "created": bill.issued(),
            "creators": [format!("Tool: {tool}-{version}")],
            "comment": "created: when the release was issued",
        },
        "packages": out.packages,
        "relationships": out.relationships,
    })
}

#[derive(Default)]
struct Out {
    packages: Vec<Value>,
    relationships: Vec<Value>,
    /// Images share layers: each is listed once.
    layers: std::collections::BTreeSet<Digest>,
}

impl Out {
    fn relate(&mut self, from: &str, how: &str, to: &str) {
        self.relationships.push(json!({
            "spdxElementId": from, "relationshipType": how, "relatedSpdxElement": to,
        }));
    }

    fn image(&mut self, number: usize, bill: &ImageBill) {
        let image = &bill.image;
        let id = format!("SPDXRef-Image-{number}");
        let unread = bill.databases.iter().filter(|one| !one.read).map(|one| one.path.as_str());
        let unread: Vec<_> = unread.collect();
        let mut comment = format!(
            "platform {}/{}; configuration {}",
            image.platform.os, image.platform.architecture, image.config
        );
        if !unread.is_empty() {
            comment.push_str(&format!(
                "; package databases that were found and not read: {}",
                unread.join(", ")
            ));
        }
        self.packages.push(package(
            &id,
            &image.reference,
            &image.manifest.to_string(),
            json!({
                "primaryPackagePurpose": "CONTAINER",
                "checksums": [checksum(&image.manifest)],
                "externalRefs": [reference(&purl::of_image(image))],
                "comment": comment,
            }),
        ));
        self.relate("SPDXRef-Product", "CONTAINS", &id);
        for (layer, created_by) in image.layers.iter().zip(&bill.created_by) {
            let layer_id = format!("SPDXRef-Layer-{}", layer.diff_id.hex());
            if self.layers.insert(layer.diff_id) {
                let by = created_by.as_ref().map(|by| format!("; created by: {by}")).unwrap_or_default();
                self.packages.push(package(
                    &layer_id,
                    &format!("layer {}", layer.diff_id),
                    &layer.diff_id.to_string(),
                    json!({
                        "primaryPackagePurpose": "ARCHIVE",
                        "checksums": [checksum(&layer.digest)],
                        "comment": format!("stored with {} bytes{by}", layer.size),
                    }),
                ));
            }
            self.relate(&id, "CONTAINS", &layer_id);
        }
        for (count, installed) in (1..).zip(&bill.packages) {
            let package_id = format!("SPDXRef-Package-{number}-{count}");
            self.packages.push(installed_package(&package_id, installed));
            self.relate(&id, "CONTAINS", &package_id);
        }
    }
}

fn installed_package(id: &str, installed: &Installed) -> Value {
    let one = &installed.package;
    let mut more = json!({
        "externalRefs": [reference(&installed.purl)],
        "sourceInfo": format!("found in /{} of layer {}", installed.path, installed.layer),
    });
    // What databases say is seldom an expression that SPDX knows, so it is told as a comment.
    if let Some(licence) = &one.licence {
        more["licenseComments"] = format!("the package says: {licence}").into();
    }
    if let Some(source) = &one.source {
        more["comment"] = format!("source package {source}").into();
    }
    package(id, &one.name, &one.version, more)
}

/// A package with everything that must be there.
fn package(id: &str, name: &str, version: &str, more: Value) -> Value {
    let mut package = json!({
        "SPDXID": id,
        "name": name,
        "versionInfo": version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
    });
    if let (Value::Object(package), Value::Object(more)) = (&mut package, more) {
        package.extend(more);
    }
    package
}

fn checksum(digest: &Digest) -> Value {
    json!({ "algorithm": "SHA256", "checksumValue": digest.hex() })
}

fn reference(purl: &str) -> Value {
    json!({ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl })
}
