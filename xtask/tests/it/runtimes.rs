//! What programs say of their versions.

use xtask::runtimes::{Version, version};

#[test]
fn versions_are_read_as_programs_tell_them() {
    assert_eq!(version("go version go1.19.8 linux/amd64"), Some(Version(1, 19)));
    assert_eq!(version("go version go1.27rc1 linux/amd64"), Some(Version(1, 27)));
    assert_eq!(version("v24.19.0\n"), Some(Version(24, 19)));
    assert_eq!(version("go version devel"), None);
    assert_eq!(version(""), None);
}

#[test]
fn a_version_is_later_by_its_first_number_first() {
    assert!(Version(2, 0) > Version(1, 26) && Version(1, 26) > Version(1, 9));
}
