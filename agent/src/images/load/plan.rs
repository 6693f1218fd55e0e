//! Which layers of which image have to be sent, and which image has to be in the engine before another is completed.
//! Pure.
//!
//! The engine is sent one archive for each image. A layer that it has, or will have from an image before, is left out of
//! it; an archive that relies on an image before is completed only once the engine has that one.

use std::collections::{BTreeMap, BTreeSet};

use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Image, Layer};

/// What the engine has already, as far as it can be told from its images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// The classic store finds a layer by its whole chain: the `diff_ids` of every image.
    Chains(Vec<Vec<String>>),
    /// The containerd store finds it by its blob's digest.
    Blobs(BTreeSet<Digest>),
}

impl Known {
    /// Whether nothing is known, so that everything is sent.
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Self::Chains(chains) => chains.is_empty(),
            Self::Blobs(blobs) => blobs.is_empty(),
        }
    }

    /// The same kind of knowledge, without any.
    pub(super) fn nothing(&self) -> Self {
        match self {
            Self::Chains(_) => Self::Chains(Vec::new()),
            Self::Blobs(_) => Self::Blobs(BTreeSet::new()),
        }
    }
}

/// One image that the engine is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Which.
    pub(super) image: Image,
    /// Layers that have to be sent, bottom first, each once.
    pub(super) send: Vec<Layer>,
    /// Images, by their place in the list, that the engine must have before this one is completed.
    pub(super) after: BTreeSet<usize>,
}

/// What has to be sent for these images, in this order.
pub(super) fn deliveries(images: Vec<Image>, known: &Known) -> Vec<Delivery> {
    match known {
        Known::Chains(chains) => by_chains(images, chains),
        Known::Blobs(blobs) => by_blobs(images, blobs),
    }
}

fn by_chains(images: Vec<Image>, chains: &[Vec<String>]) -> Vec<Delivery> {
    let own = |image: &Image| image.layers.iter().map(|l| l.diff_id.to_string()).collect::<Vec<_>>();
    let mine: Vec<Vec<String>> = images.iter().map(own).collect();
    let deliver = |(place, image): (usize, Image)| {
        let common = |chain: &Vec<String>| {
            mine[place].iter().zip(chain).take_while(|(own, theirs)| own == theirs).count()
        };
        let mut depth = chains.iter().map(common).max().unwrap_or_default();
        let mut after = BTreeSet::new();
        for (before, chain) in mine.iter().enumerate().take(place) {
            if common(chain) > depth {
                depth = common(chain);
                after = BTreeSet::from([before]);
            }
        }
        Delivery { send: each_once(image.layers.iter().skip(depth)), image, after }
    };
    images.into_iter().enumerate().map(deliver).collect()
}

fn by_blobs(images: Vec<Image>, known: &BTreeSet<Digest>) -> Vec<Delivery> {
    let mut sent_with: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut deliver = |(place, image): (usize, Image)| {
        let mut after = BTreeSet::new();
        let mut lacking = Vec::new();
        for layer in image.layers.iter().filter(|layer| !known.contains(&layer.digest)) {
            match sent_with.get(&layer.digest) {
                Some(before) if *before != place => {
                    after.insert(*before);
                }
                Some(_) => {}
                None => {
                    sent_with.insert(layer.digest, place);
                    lacking.push(layer);
                }
            }
        }
        Delivery { send: each_once(lacking.into_iter()), image, after }
    };
    images.into_iter().enumerate().map(&mut deliver).collect()
}

fn each_once<'a>(layers: impl Iterator<Item = &'a Layer>) -> Vec<Layer> {
    let mut seen = BTreeSet::new();
    layers.filter(|layer| seen.insert(layer.digest)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use kedge_bundle::layout::{Compression, Platform};

    use super::*;

    fn image(layers: &[&str]) -> Image {
        let layer = |name: &&str| Layer {
            digest: Digest::of(name.as_bytes()),
            size: 1,
            diff_id: Digest::of(format!("plain {name}").as_bytes()),
            compression: Compression::Gzip,
        };
        Image {
            reference: "a".into(),
            platform: Platform::default(),
            manifest: Digest::of(b"m"),
            manifest_size: 1,
            manifest_type: String::new(),
            config: Digest::of(b"c"),
            config_size: 1,
            layers: layers.iter().map(layer).collect(),
        }
    }

    fn chains(images: &[&[&str]]) -> Known {
        let chain = |layers: &&[&str]| image(layers).layers.iter().map(|l| l.diff_id.to_string()).collect();
        Known::Chains(images.iter().map(chain).collect())
    }

    /// Names of the layers sent for each image, and what it waits for.
    fn plan(images: &[&[&str]], known: &Known) -> Vec<(Vec<&'static str>, Vec<usize>)> {
        let names = ["a", "b", "c", "x"];
        let name = |layer: &Layer| *names.iter().find(|n| Digest::of(n.as_bytes()) == layer.digest).unwrap();
        deliveries(images.iter().map(|layers| image(layers)).collect(), known)
            .into_iter()
            .map(|one| (one.send.iter().map(name).collect(), one.after.into_iter().collect()))
            .collect()
    }

    #[test]
    fn the_classic_store_knows_a_layer_only_where_it_knows_all_below() {
        for (theirs, sent) in [
            (&["a", "b", "x"][..], &["c"][..]),
            (&["a", "b", "c"], &[]),
            (&["x", "b", "c"], &["a", "b", "c"]),
            (&[], &["a", "b", "c"]),
        ] {
            assert_eq!(
                plan(&[&["a", "b", "c"]], &chains(&[theirs])),
                [(sent.to_vec(), vec![])],
                "{theirs:?}"
            );
        }
    }

    #[test]
    fn a_layer_of_an_image_before_is_left_out_and_that_one_waited_for() {
        let none = chains(&[]);
        assert_eq!(
            plan(&[&["a", "b"], &["a", "c"], &["a", "c", "x"]], &none),
            [(vec!["a", "b"], vec![]), (vec!["c"], vec![0]), (vec!["x"], vec![1])]
        );
        assert_eq!(plan(&[&["a", "b"], &["c", "a"]], &none)[1], (vec!["c", "a"], vec![]), "on another base");
        let blobs = Known::Blobs(BTreeSet::new());
        assert_eq!(
            plan(&[&["a", "b"], &["c", "a"]], &blobs)[1],
            (vec!["c"], vec![0]),
            "containerd does not mind"
        );
    }

    #[test]
    fn what_the_engine_has_is_neither_sent_nor_waited_for() {
        assert_eq!(plan(&[&["a", "b"], &["a", "c"]], &chains(&[&["a"]]))[1], (vec!["c"], vec![]));
        let known = Known::Blobs(BTreeSet::from([Digest::of(b"a")]));
        assert_eq!(plan(&[&["a", "b"], &["a", "c"]], &known), [(vec!["b"], vec![]), (vec!["c"], vec![])]);
    }

    #[test]
    fn a_layer_that_is_there_twice_is_sent_once() {
        assert_eq!(plan(&[&["a", "b", "a"]], &chains(&[]))[0].0, ["a", "b"]);
        assert_eq!(plan(&[&["a", "b", "a"]], &Known::Blobs(BTreeSet::new()))[0].0, ["a", "b"]);
    }
}
