//! Who the agent is on this host, and what that user may do: the doctor's caller is mostly root, who may do anything.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Place, unit::Unit};

/// What the permissions of a file call reading, writing and going through.
pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const PASS: u32 = 1;

/// The agent's user and all of its groups.
pub(super) struct Account {
    pub(super) name: String,
    uid: u32,
    gids: Vec<u32>,
}

impl Account {
    /// The one that the unit names, `kedge` where there is no unit; `None` where `/etc/passwd` has no such user.
    pub(super) fn of_agent(place: &Place) -> Option<Self> {
        let unit = Unit::of(place);
        let name = unit.as_ref().map_or("kedge", |unit| unit.last("User").unwrap_or("root"));
        let users = place.read("/etc/passwd")?;
        let user = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f[0] == name)?;
        let (uid, primary) = (user.get(2)?.parse().ok()?, user.get(3)?.parse().ok()?);
        let given = |key| unit.as_ref().and_then(|unit| unit.list(key)).unwrap_or_default();
        let given = [given("Group"), given("SupplementaryGroups")].concat();
        let groups = place.read("/etc/group").unwrap_or_default();
        let member = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let &[group, _, gid, members] = fields.as_slice() else { return None };
            let is_in = given.contains(&group) || members.split(',').any(|member| member == name);
            gid.parse().ok().filter(|_| is_in)
        };
        let gids = groups.lines().filter_map(member).chain([primary]).collect();
        Some(Self { name: name.to_owned(), uid, gids })
    }

    /// Whether this user owns it.
    pub(super) fn owns(&self, meta: &Metadata) -> bool {
        meta.uid() == self.uid
    }

    /// Whether this user has this permission there; where it cannot be told (access control lists), yes.
    pub(super) fn may(&self, permission: u32, path: &Path) -> bool {
        let Ok(meta) = path.metadata() else { return true };
        let shift = if self.owns(&meta) {
            6
        } else if self.gids.contains(&meta.gid()) {
            3
        } else {
            0
        };
        let has_list = || rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0][..]).is_ok();
        self.uid == 0 || (meta.mode() >> shift) & permission == permission || has_list()
    }
}

/// The name of a group of this number.
pub(super) fn group_name(place: &Place, gid: u32) -> Option<String> {
    let groups = place.read("/etc/group")?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}
