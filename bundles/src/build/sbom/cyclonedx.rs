//! CycloneDX 1.6, JSON: <https://cyclonedx.org/docs/1.6/json/>. Components are the images; in each are its layers, as files,
//! and its packages, as libraries.

use serde_json::{Value, json};

use super::{Bill, ImageBill, Installed, purl};
use crate::digest::Digest;

/// The document.
pub(super) fn document(bill: &Bill, (tool, version): (&str, &str)) -> Value {
    let release = &bill.release;
    let images: Vec<Value> = (1..).zip(&bill.images).map(|(number, one)| image(number, one)).collect();
    let children: Vec<Value> = images.iter().map(|image| image["bom-ref"].clone()).collect();
    let mut dependencies = vec![json!({ "ref": "product", "dependsOn": children })];
    dependencies.extend(images.iter().map(|image| {
        let parts = image["components"].as_array().into_iter().flatten();
        let libraries = parts.filter(|part| part["type"] == "library").map(|part| part["bom-ref"].clone());
        json!({ "ref": image["bom-ref"], "dependsOn": libraries.collect::<Vec<_>>() })
    }));
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial(&bill.digest),
        "version": 1,
        "metadata": {
            "timestamp": bill.issued(),
            "tools": { "components": [{ "type": "application", "name": tool, "version": version }] },
            "component": {
                "type": "application",
                "bom-ref": "product",
                "name": release.product,
                "version": release.version,
                "properties": [
                    property("kedge:stream", &release.stream),
                    property("kedge:seq", &release.seq.to_string()),
                    property("kedge:release", &bill.digest.to_string()),
                ],
            },
        },
        "components": images,
        "dependencies": dependencies,
    })
}

fn image(number: usize, bill: &ImageBill) -> Value {
    let image = &bill.image;
    let id = format!("image-{number}");
    let layers = (1..).zip(image.layers.iter().zip(&bill.created_by)).map(|(place, (layer, created_by))| {
        let mut properties = vec![
            property("kedge:layer:diff-id", &layer.diff_id.to_string()),
            property("kedge:layer:size", &layer.size.to_string()),
        ];
        properties.extend(created_by.as_ref().map(|by| property("kedge:layer:created-by", by)));
        json!({
            "type": "file",
            "bom-ref": format!("{id}/layer-{place}"),
            "name": format!("layer {place}"),
            "version": layer.digest.to_string(),
            "hashes": [hash(&layer.digest)],
            "properties": properties,
        })
    });
    let packages =
        (1..).zip(&bill.packages).map(|(count, one)| library(&format!("{id}/package-{count}"), one));
    let databases = bill.databases.iter().map(|one| {
        let read = if one.read { "" } else { ", not read" };
        property("kedge:database", &format!("{} /{}{read}", one.kind, one.path))
    });
    let mut properties = vec![
        property("kedge:platform", &format!("{}/{}", image.platform.os, image.platform.architecture)),
        property("kedge:config", &image.config.to_string()),
    ];
    properties.extend(databases);
    json!({
        "type": "container",
        "bom-ref": id,
        "name": image.reference,
        "version": image.manifest.to_string(),
        "purl": purl::of_image(image),
        "hashes": [hash(&image.manifest)],
        "properties": properties,
        "components": layers.chain(packages).collect::<Vec<_>>(),
    })
}

fn library(id: &str, installed: &Installed) -> Value {
    let one = &installed.package;
    let mut properties = vec![
        property("kedge:found-in", &format!("/{}", installed.path)),
        property("kedge:layer:diff-id", &installed.layer.to_string()),
    ];
    properties.extend(one.source.as_ref().map(|source| property("kedge:source-package", source)));
    let mut library = json!({
        "type": "library",
        "bom-ref": id,
        "name": one.name,
        "version": one.version,
        "purl": installed.purl,
        "properties": properties,
    });
    if let Some(licence) = &one.licence {
        library["licenses"] = json!([{ "license": { "name": licence } }]);
    }
    library
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

fn hash(digest: &Digest) -> Value {
    json!({ "alg": "SHA-256", "content": digest.hex() })
}

/// A UUID that follows from the release (RFC 9562, version 8): the same release, the same number.
fn serial(digest: &Digest) -> String {
    let mut bytes = *digest.as_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
