//! Addresses of stores, of any text: what is taken means the same to everybody, and no message repeats a secret.

use proptest::prelude::*;
use synddb_storage::{StoreUrl, StoreUrlError};

/// What a person hides in an address, and no log may show.
const SECRET: &str = "hunter2";

fn scheme() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["gs", "s3", "az", "http", "https"])
}

fn whole(error: &StoreUrlError) -> String {
    format!("{} {error:?}", synddb_protocol::chain(error))
}

proptest! {
    #[test]
    fn an_address_is_its_text(
        scheme in scheme(),
        bucket in "[a-z0-9][a-z0-9-]{1,20}[a-z]",
        prefix in prop::collection::vec("[A-Za-z0-9_-][A-Za-z0-9._-]{0,9}", 0..4),
        ending in prop::sample::select(vec!["", "/"]),
    ) {
        // As a host these are numbers, and names in another alphabet.
        let is_text = !bucket.starts_with("0x") && !bucket.starts_with("xn--");
        prop_assume!(is_text || !scheme.starts_with("http"));
        let path: String = prefix.iter().map(|segment| format!("/{segment}")).collect();
        let text = format!("{scheme}://{bucket}{path}{ending}");
        let url: StoreUrl = text.parse().unwrap();
        let shown = url.to_string();
        prop_assert_eq!(shown.trim_end_matches('/'), text.trim_end_matches('/'));
        prop_assert_eq!(&url.to_string().parse::<StoreUrl>().unwrap(), &url);
        let json = serde_json::to_string(&url).unwrap();
        prop_assert_eq!(&serde_json::from_str::<StoreUrl>(&json).unwrap(), &url);
        prop_assert_eq!(url.is_writable(), !scheme.starts_with("http"));
    }

    /// Nothing that is taken has to be escaped, or was understood otherwise than it was written.
    #[test]
    fn what_is_taken_needs_no_escape(
        scheme in scheme(),
        bucket in "[a-z0-9]{3,9}",
        rest in prop_oneof![
            "(/[a-z.%2eE\\\\ ~:@+=*]{0,4}){0,4}",
            "[/.a-z%\\t\\n\\\\é]{0,12}",
            any::<String>(),
        ],
    ) {
        let text = format!("{scheme}://{bucket}{rest}");
        if let Ok(url) = text.parse::<StoreUrl>() {
            let shown = url.to_string();
            let (_, after) = shown.split_once("://").unwrap();
            // An address of a host may name its port.
            let is_safe = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | '.' | '/' | ':');
            prop_assert!(after.chars().all(is_safe), "{text:?} became {shown:?}");
            let path = |text: &str| {
                let (_, after) = text.split_once("://").unwrap();
                after.split_once('/').map_or(String::new(), |(_, path)| path.trim_end_matches('/').to_owned())
            };
            prop_assert_eq!(path(&shown), path(&text), "{:?} became {:?}", text, shown);
            prop_assert!(!path(&shown).split('/').any(|part| matches!(part, "." | "..")), "{shown:?}");
            prop_assert_eq!(&shown.parse::<StoreUrl>().unwrap(), &url);
        }
    }

    /// Wherever somebody writes a secret, it is either part of a name that is taken, or in no message.
    #[test]
    fn no_message_repeats_a_secret(
        scheme in prop::sample::select(vec!["gs", "s3", "az", "http", "https", "file", "memory", "ftp", "gs+ssh"]),
        form in prop::sample::select(vec![
            "SCHEME://SECRET@bucket/a",
            "SCHEME://user:SECRET@bucket/a",
            "SCHEME://bucket/a?token=SECRET",
            "SCHEME://bucket/a#SECRET",
            "SCHEME://bucket:80SECRET/a",
            "SCHEME://bucket/a b/SECRET",
            "SCHEME://[SECRET",
            "SCHEME:SECRET",
            "SCHEME:///SECRET?",
            "SECRET",
            "/SECRET:",
        ]),
    ) {
        let text = form.replace("SCHEME", scheme).replace("SECRET", SECRET);
        if let Err(error) = text.parse::<StoreUrl>() {
            prop_assert!(!whole(&error).contains(SECRET), "{text}: {}", whole(&error));
        }
        let json = serde_json::to_string(&text).unwrap();
        if let Err(error) = serde_json::from_str::<StoreUrl>(&json) {
            prop_assert!(!error.to_string().contains(SECRET), "{text}: {error}");
        }
    }

    #[test]
    fn any_text_is_an_address_or_an_error(text in any::<String>()) {
        if let Ok(url) = text.parse::<StoreUrl>() {
            prop_assert_eq!(&url.to_string().parse::<StoreUrl>().unwrap(), &url);
        }
    }
}
