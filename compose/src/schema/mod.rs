//! What may stand where: every key of the Compose specification with the shape of its value.
//!
//! One table ([`service`], [`toplevel`]) serves three purposes: [`check`] refuses what is not in it and turns text
//! such as `"true"` or `"3"` into the type that its key has; [`render`] writes the canonical JSON; and the nearest key
//! for a typo comes from it.
//!
//! Source: the JSON schema of the Compose specification, and what Docker Compose 2.26.1 prints.

pub(crate) mod check;
pub(crate) mod render;
mod service;
mod toplevel;

pub(crate) use service::EXTENDS;
pub(crate) use toplevel::{INCLUDES, PROJECT};

/// What a value looks like, short and long forms alike.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Anything.
    Any,
    /// Text.
    Text,
    /// One of some words.
    Word(&'static [&'static str]),
    /// Text or a whole number, canonically text.
    Scalar,
    /// `true`, `false`, or text that says so.
    Bool,
    /// A number, or text that is a whole one; a fraction is cut off.
    Int,
    /// The same, not below zero.
    Natural,
    /// A whole number within bounds, both included, or text that is one.
    Whole(i64, i64),
    /// A number, or text that is one; printed with single precision, as Docker Compose keeps it.
    Float,
    /// A size: bytes, or text with a unit. Canonically bytes, as text.
    Bytes,
    /// A size that must be text (`deploy.resources`).
    BytesText,
    /// Text such as `1m30s`.
    Duration,
    /// Nothing, a command line, or a list of arguments.
    Command,
    /// A command line for the shell, or a list of arguments: `healthcheck.test`.
    Test,
    /// A list of texts.
    Texts,
    /// A list of texts, none of them twice.
    Set,
    /// One text, or a list.
    TextOrTexts,
    /// One text, or a list with none of them twice.
    TextOrSet,
    /// A list of texts and whole numbers, none of them twice, canonically texts.
    Scalars,
    /// `KEY: value` or a list of `KEY=value`. The flag: a key without a value stays without one.
    Pairs(bool),
    /// A mapping of texts and numbers, canonically texts. The flag: a key may be without a value.
    Options(bool),
    /// A mapping of texts.
    TextMap,
    /// `host: address`, or a list of `host=address` or `host:address`.
    Hosts,
    /// A limit, or `soft` and `hard`.
    Ulimit,
    /// `all` or a number.
    Count,
    /// `true`, `false`, or the old form with a `name`.
    External,
    /// A list of one shape.
    List(&'static Shape),
    /// A mapping with names chosen by the user.
    Named(&'static Shape),
    /// A mapping with known keys.
    Object(&'static Object),
    /// The shape, where text that stands for it will not do.
    NotText(&'static Shape),
    /// Text that stands for the long form, or the long form.
    Short(&'static Shape),
    /// The word `all`, or the shape.
    AllOr(&'static Shape),
    /// A number or text that stands for the long form, or the long form: ports.
    ShortNumber(&'static Shape),
    /// One short or long form, or a list of them: `env_file`.
    OneOrMore(&'static Shape),
    /// A list of names, none of them twice, or a mapping by name.
    NamesOr(&'static Shape),
    /// Nothing, or the shape.
    OrNull(&'static Shape),
    /// A list of `KEY=value` or names, or a mapping: `build.ssh`.
    Ssh,
}

/// A mapping with known keys.
#[derive(Debug)]
pub(crate) struct Object {
    /// What it is, for messages: "a service".
    pub(crate) what: &'static str,
    /// Its keys.
    pub(crate) fields: &'static [Field],
    /// Keys that must be there.
    pub(crate) required: &'static [&'static str],
    /// Whether `x-` keys are allowed.
    pub(crate) extensions: bool,
    /// Keys are printed with a capital letter (an oddity of Docker Compose in `blkio_config`).
    pub(crate) capitals: bool,
}

/// A key of an [`Object`].
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) key: &'static str,
    pub(crate) shape: Shape,
    pub(crate) printed: Printed,
}

/// How a key is printed canonically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Printed {
    /// Unless zero, false or empty.
    NonZero,
    /// Whenever it is given.
    Given,
    /// Always; `null` when not given.
    OrNull,
    /// Always; `{}` when not given.
    OrEmpty,
    /// Never: resolved into something else.
    Never,
}

/// A key printed unless zero.
const fn f(key: &'static str, shape: Shape) -> Field {
    Field { key, shape, printed: Printed::NonZero }
}

/// A key printed whenever given.
const fn given(key: &'static str, shape: Shape) -> Field {
    Field { key, shape, printed: Printed::Given }
}

/// A key printed as given by the third argument.
const fn printed(key: &'static str, shape: Shape, printed: Printed) -> Field {
    Field { key, shape, printed }
}

/// An object with extensions and without required keys.
const fn object(what: &'static str, fields: &'static [Field]) -> Object {
    Object { what, fields, required: &[], extensions: true, capitals: false }
}

/// All keys that a service may have, extensions aside, in the order of the alphabet.
pub fn service_keys() -> impl Iterator<Item = &'static str> {
    service::SERVICE_OBJECT.fields.iter().map(|field| field.key)
}

/// A whole number that is not below zero.
const COUNT: Shape = Shape::Whole(0, i64::MAX);
/// Any whole number.
const WHOLE: Shape = Shape::Whole(i64::MIN, i64::MAX);

impl Object {
    /// The field of a key.
    pub(crate) fn field(&self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.key == key)
    }
}
