//! What a platform refuses, in words that name the fix.
//!
//! Platforms answer with a status and a code. The code is part of their protocol, so it decides; the message beside it is for people,
//! and is not kept. A code that is not known here decides nothing: its status does.

use std::time::{Duration, SystemTime};

use crate::store::{Cause, Failure};

/// How far the clocks of a platform and of this machine may be apart before a refused signature is put down to them. The strictest
/// platform takes five minutes, the others a quarter of an hour.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The method that removes.
pub(super) const REMOVE: &str = "DELETE";

/// Why a platform does not do what it was asked, where its answer tells.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such bucket or container.
    #[error("the bucket does not exist: create it, or correct the address of the store. code=`{code}`")]
    NoBucket {
        /// The platform's code.
        code: String,
    },
    /// The bucket lies in another region than the one asked.
    #[error("the bucket is in another region: set AWS_REGION. code=`{code}` region=`{region}`")]
    Region {
        /// The platform's code.
        code: String,
        /// The region that was named, if one was.
        region: String,
    },
    /// The time of the request is not the platform's.
    #[error(
        "this machine's clock differs from the platform's by too much: set it, for example by NTP. code=`{code}`"
    )]
    Clock {
        /// The platform's code.
        code: String,
    },
    /// The credentials were valid once.
    #[error("the credentials have expired: renew them. code=`{code}`")]
    Expired {
        /// The platform's code.
        code: String,
    },
    /// The platform does not know who asks.
    #[error(
        "the platform does not accept the credentials: check them, and whose account they are of. status=`{status}` code=`{code}`"
    )]
    Credentials {
        /// The status of the answer.
        status: u16,
        /// The platform's code.
        code: String,
    },
    /// The platform knows who asks, and that it is not allowed.
    #[error(
        "the credentials do not permit this: grant it (on S3, what is absent reads as denied to who may not list the bucket). \
         method=`{method}` status=`{status}` code=`{code}`"
    )]
    Permission {
        /// The method of the request.
        method: String,
        /// The status of the answer.
        status: u16,
        /// The platform's code.
        code: String,
    },
    /// Nothing may be removed, or not yet.
    #[error(
        "the platform does not let it be removed: grant the permission to delete; what a retention policy, a hold or a lock keeps can be removed \
         when that ends. status=`{status}` code=`{code}`"
    )]
    Kept {
        /// The status of the answer.
        status: u16,
        /// The platform's code.
        code: String,
    },
    /// There are no credentials, and this machine is none of the platform's own, which would give some.
    #[error(
        "no credentials were found, and no metadata service gives any here: set {variables}. asked=`{host}`"
    )]
    NoCredentials {
        /// The variables by which credentials can be given.
        variables: &'static str,
        /// The metadata service that did not answer.
        host: String,
    },
}

impl Refusal {
    /// What a caller does about it. A clock and credentials may be set right while a process runs, and a metadata service may be
    /// late, so these are worth another try. Where a store is opened, no credentials end it all the same.
    pub(crate) fn sorted(&self) -> fn(Cause) -> Failure {
        match self {
            Self::Clock { .. } | Self::Expired { .. } | Self::NoCredentials { .. } => Failure::Unavailable,
            Self::Credentials { .. } | Self::Permission { .. } | Self::Kept { .. } => Failure::Denied,
            Self::NoBucket { .. } | Self::Region { .. } => Failure::Misconfigured,
        }
    }

    /// The same refusal, with what the clocks say of it: Azure and Google refuse what was signed at another time in the words in which
    /// they refuse a wrong key. `answered` is when the platform says that it answered, by its clock.
    pub(crate) fn seen_at(self, answered: Option<SystemTime>, now: SystemTime) -> Self {
        let apart = |answered: SystemTime| {
            now.duration_since(answered).unwrap_or_else(|later| later.duration()) > CLOCK_TOLERANCE
        };
        if answered.is_some_and(apart)
            && let Self::Credentials { code, .. } = self
        {
            return Self::Clock { code };
        }
        self
    }

    /// What an answer refuses, or `None` when it refuses nothing that is known here.
    ///
    /// `code` is what the platform called it, empty where it did not; `region` is where it says that the bucket lies.
    pub(crate) fn of_answer(method: &str, status: u16, code: &str, region: Option<&str>) -> Option<Self> {
        let code = || code.to_owned();
        Some(match (status, code().as_str()) {
            (404, "NoSuchBucket" | "ContainerNotFound" | "ResourceNotFound") => {
                Self::NoBucket { code: code() }
            }
            // Azure: the name of an account is part of the host.
            (400 | 404, "AccountIsDisabled" | "InvalidBucketName") => Self::NoBucket { code: code() },
            (
                301 | 307 | 308 | 400,
                "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException",
            ) => Self::Region { code: code(), region: region.unwrap_or("not told").to_owned() },
            (400..=403, "RequestTimeTooSkewed" | "RequestExpired") => Self::Clock { code: code() },
            (400..=403, "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired") => {
                Self::Expired { code: code() }
            }
            (
                400..=403,
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "InvalidToken"
                | "InvalidClientTokenId"
                | "AuthenticationFailed"
                | "InvalidAuthenticationInfo"
                | "NoAuthenticationInformation"
                | "invalid_grant"
                | "invalid_client"
                | "unauthorized_client",
            ) => Self::Credentials { status, code: code() },
            (401, _) => Self::Credentials { status, code: code() },
            (403 | 409 | 412, _) if method == REMOVE => Self::Kept { status, code: code() },
            (403, _) => Self::Permission { method: method.to_owned(), status, code: code() },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, code: &str) -> Option<Refusal> {
        Refusal::of_answer("GET", status, code, None)
    }

    #[test]
    fn what_is_no_refusal_stays_what_it_is() {
        for (status, code) in [
            (404, "NoSuchKey"),
            (404, "BlobNotFound"),
            (404, ""),
            (409, "ConditionalRequestConflict"),
            (412, "PreconditionFailed"),
            (409, "BlobAlreadyExists"),
            (503, "SlowDown"),
            (500, "InternalError"),
            (429, ""),
        ] {
            assert_eq!(of(status, code), None, "{status} {code}");
        }
    }

    #[test]
    fn what_keeps_an_object_is_told_apart_from_what_keeps_a_key() {
        let removed = |status, code| Refusal::of_answer(REMOVE, status, code, None);
        for (status, code) in
            [(403, "AccessDenied"), (409, "BlobImmutableDueToPolicy"), (412, "LeaseIdMissing")]
        {
            let kept = removed(status, code).unwrap();
            assert_eq!(kept, Refusal::Kept { status, code: code.to_owned() });
            assert!(matches!(kept.sorted()(Box::new(kept)), Failure::Denied(_)));
        }
        assert!(matches!(removed(403, "SignatureDoesNotMatch"), Some(Refusal::Credentials { .. })));
        assert_eq!(removed(404, "NoSuchKey"), None);
        assert_eq!(of(409, "BlobImmutableDueToPolicy"), None);
    }

    #[test]
    fn a_refused_signature_is_put_down_to_clocks_that_are_apart() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let seen = |code, answered| of(403, code).unwrap().seen_at(answered, now);
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        for answered in [now - minutes(20), now + minutes(20)] {
            assert!(matches!(seen("AuthenticationFailed", Some(answered)), Refusal::Clock { .. }));
            // Whoever is known was not refused for the time.
            assert!(matches!(seen("AccessDenied", Some(answered)), Refusal::Permission { .. }));
        }
        for answered in [None, Some(now), Some(now - minutes(4)), Some(now + minutes(4))] {
            assert!(matches!(seen("AuthenticationFailed", answered), Refusal::Credentials { .. }));
        }
    }

    #[test]
    fn each_refusal_is_sorted_by_what_the_caller_does() {
        let sorted = |status, code| {
            let refusal = of(status, code).unwrap();
            refusal.sorted()(Box::new(refusal))
        };
        assert!(matches!(sorted(404, "NoSuchBucket"), Failure::Misconfigured(_)));
        assert!(matches!(sorted(404, "ContainerNotFound"), Failure::Misconfigured(_)));
        assert!(matches!(sorted(301, "PermanentRedirect"), Failure::Misconfigured(_)));
        assert!(matches!(sorted(403, "RequestTimeTooSkewed"), Failure::Unavailable(_)));
        assert!(matches!(sorted(400, "ExpiredToken"), Failure::Unavailable(_)));
        assert!(matches!(sorted(403, "SignatureDoesNotMatch"), Failure::Denied(_)));
        assert!(matches!(sorted(401, ""), Failure::Denied(_)));
        assert!(matches!(sorted(403, "AccessDenied"), Failure::Denied(_)));
        assert!(matches!(sorted(400, "invalid_grant"), Failure::Denied(_)));
    }
}
