//! Envelopes and the documents of every role: never a panic, one answer, and a short reason for each refusal.
//!
//! The first byte says what the rest is: an envelope as it is, or the payload of a role, which is then properly signed, for
//! what is not signed is hardly looked at.

#![no_main]

use std::sync::OnceLock;

use kedge_bundle::envelope::Envelope;
use kedge_bundle::licence;
use kedge_bundle::roles::Role;
use kedge_bundle::sign::{self, Signer};
use kedge_bundle::testing::{Vendor, now};
use kedge_bundle::verify::{self, Context, Documents, Refusal, RootSet};
use libfuzzer_sys::fuzz_target;

struct Known {
    vendor: Vendor,
    roots: RootSet,
    documents: Documents,
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let vendor = Vendor::new("a");
        let roots = verify::roots(&vendor.trust(), &vendor.envelopes).expect("a good chain");
        let documents = vendor.bundle(3).documents();
        Known { vendor, roots, documents }
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let Known { vendor, roots, documents } = known();
    let signed = |role, signers: &[&dyn Signer]| {
        sign::envelope(role, rest.to_vec(), signers).expect("memory is enough").encode()
    };
    let (trust, context) = (vendor.trust(), vendor.context());
    match kind % 6 {
        0 => {
            if let Ok(envelope) = Envelope::parse(rest) {
                assert_eq!(Envelope::parse(&envelope.encode()).as_ref(), Ok(&envelope));
            }
            short(verify::roots(&trust, &[rest.to_vec()]).err());
        }
        1 => {
            let keys = [&vendor.root_keys[0] as &dyn Signer, &vendor.root_keys[1]];
            let first = vendor.envelopes[0].clone();
            short(verify::roots(&trust, &[first, signed(Role::Root, &keys)]).err());
        }
        2 => {
            let release = signed(Role::Release, &[&vendor.release_key]);
            short(
                verify::release(&trust, &context, roots, &Documents { release, ..documents.clone() }).err(),
            );
        }
        3 => {
            let statement = signed(Role::Fresh, &[&vendor.fresh_key]);
            short(verify::fresh(&trust, &Context::at(now()), roots, &statement).err());
        }
        4 => short(licence::read(&roots.newest, &signed(Role::Licence, &[&vendor.licence_key])).err()),
        _ => {
            let release = rest.to_vec();
            short(
                verify::release(&trust, &context, roots, &Documents { release, ..documents.clone() }).err(),
            );
        }
    }
});

fn short(refusal: Option<Refusal>) {
    if let Some(refusal) = refusal {
        assert!(refusal.to_string().len() < 4096, "a reason is logged, audited and sent");
    }
}
