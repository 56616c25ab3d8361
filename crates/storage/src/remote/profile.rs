//! The files in which the AWS tools keep keys and regions, and the profile in them that is meant.
//!
//! Only what lies there as text is used. A profile that gets its keys elsewhere (single sign-on, a role, a program) is refused with
//! the command that makes variables of it, because ending up with another identity than the one named would be worse.

use std::path::{Path, PathBuf};

use super::Variables;

/// Largest such file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Settings by which a profile gets its keys from elsewhere.
const ELSEWHERE: [&str; 5] =
    [ROLE, "sso_session", "sso_start_url", "credential_process", "web_identity_token_file"];

/// The one that comes before keys beside it: those are what the role is assumed with, and another identity than it.
const ROLE: &str = "role_arn";

/// Variables that give credentials, and so come before the files.
const BEFORE_FILES: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"];

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// A profile was named and is in neither file.
    #[error("the profile is not in the files of the AWS tools: correct AWS_PROFILE. profile=`{profile}`")]
    Absent {
        /// The profile.
        profile: String,
    },
    /// The profile's keys are not in the files.
    #[error(
        "the profile gets its keys from elsewhere: set them as variables, with `aws configure export-credentials --profile {profile} --format env`. \
         profile=`{profile}` setting=`{setting}`"
    )]
    Elsewhere {
        /// The profile.
        profile: String,
        /// The setting that says so.
        setting: &'static str,
    },
    /// A file exists and cannot be read.
    #[error("cannot read a file of the AWS tools. file=`{}`", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What happened.
        #[source]
        error: std::io::Error,
    },
}

/// Keys that lie in a file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

/// What the files say of one profile.
#[derive(Default)]
pub(super) struct Profile {
    settings: Vec<(String, String)>,
}

impl Profile {
    /// Reads the profile that is meant. Without files, and without a profile named, it is empty.
    pub(super) fn read(variables: &Variables) -> Result<Self, ProfileError> {
        let named = variables.first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]);
        let profile = named.unwrap_or("default");
        let home = variables.first(&["HOME", "USERPROFILE"]).map(|home| Path::new(home).join(".aws"));
        let file = |variable, name| {
            variables.get(variable).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(name)))
        };
        let mut settings = Vec::new();
        let mut found = false;
        let places = [
            (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), profile.to_owned()),
            (
                file("AWS_CONFIG_FILE", "config"),
                if profile == "default" { profile.to_owned() } else { format!("profile {profile}") },
            ),
        ];
        for (file, section) in places {
            let Some(text) = file.map(|file| text_of(&file)).transpose()?.flatten() else { continue };
            found |= take_section(&text, &section, &mut settings);
        }
        if named.is_some() && !found {
            return Err(ProfileError::Absent { profile: profile.to_owned() });
        }
        let profile_found = Self { settings };
        let given = BEFORE_FILES.iter().any(|name| variables.get(name).is_some());
        if given {
            // The keys come from the variables; of the files only the region counts.
            let region = profile_found.settings.into_iter().filter(|(name, _)| name == "region").collect();
            return Ok(Self { settings: region });
        }
        if (profile_found.keys().is_none() || profile_found.get(ROLE).is_some())
            && let Some(setting) = ELSEWHERE.into_iter().find(|name| profile_found.get(name).is_some())
        {
            return Err(ProfileError::Elsewhere { profile: profile.to_owned(), setting });
        }
        Ok(profile_found)
    }

    pub(super) fn region(&self) -> Option<&str> {
        self.get("region")
    }

    pub(super) fn keys(&self) -> Option<Keys> {
        let (id, secret) =
            (self.get("aws_access_key_id")?.to_owned(), self.get("aws_secret_access_key")?.to_owned());
        Some(Keys { id, secret, token: self.get("aws_session_token").map(str::to_owned) })
    }

    /// The first value: the file of keys comes before the other one.
    fn get(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

fn text_of(file: &Path) -> Result<Option<String>, ProfileError> {
    let failed = |error| ProfileError::File { file: file.to_owned(), error };
    match std::fs::metadata(file) {
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            Err(failed(std::io::Error::from(std::io::ErrorKind::FileTooLarge)))
        }
        Ok(_) => std::fs::read_to_string(file).map(Some).map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Adds the settings of a section; whether there is one.
fn take_section(text: &str, section: &str, settings: &mut Vec<(String, String)>) -> bool {
    let (mut inside, mut found) = (false, false);
    for line in text.lines() {
        if let Some(name) = line.trim_end().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.split_whitespace().eq(section.split_whitespace());
            found |= inside;
            continue;
        }
        // What is indented belongs to a nested setting, and none of those is used.
        let plain = inside && !line.starts_with([' ', '\t', '#', ';']);
        if plain && let Some((name, value)) = line.split_once('=') {
            settings.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(credentials: &str, config: &str, more: &[(&str, &str)]) -> Result<Profile, ProfileError> {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
        std::fs::write(home.path().join(".aws/config"), config).unwrap();
        let home = home.path().to_str().unwrap().to_owned();
        let variables = [("HOME", home.as_str())].into_iter().chain(more.iter().copied()).collect();
        Profile::read(&variables)
    }

    const CREDENTIALS: &str = "[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\n[other]\naws_access_key_id=C\n\
                               aws_secret_access_key=D\naws_session_token=E\n# region = nowhere\n";
    const CONFIG: &str = "[default]\nregion = eu-1\n[profile other]\nregion=eu-2\ns3 =\n  region = deep\n[profile sso]\nsso_session = x\n";

    #[test]
    fn the_profile_that_is_meant_is_read_of_both_files() {
        let found = read(CREDENTIALS, CONFIG, &[]).unwrap();
        assert!(found.keys() == Some(Keys { id: "A".into(), secret: "B=".into(), token: None }));
        assert_eq!(found.region(), Some("eu-1"));
        let found = read(CREDENTIALS, CONFIG, &[("AWS_PROFILE", "other")]).unwrap();
        assert!(found.keys() == Some(Keys { id: "C".into(), secret: "D".into(), token: Some("E".into()) }));
        assert_eq!(found.region(), Some("eu-2"));
    }

    #[test]
    fn keys_in_variables_come_before_those_in_files() {
        let found = read(CREDENTIALS, CONFIG, &[("AWS_ACCESS_KEY_ID", "X")]).unwrap();
        assert!(found.keys().is_none());
        assert_eq!(found.region(), Some("eu-1"));
    }

    #[test]
    fn a_profile_that_cannot_be_used_says_what_to_do() {
        let absent = read(CREDENTIALS, CONFIG, &[("AWS_PROFILE", "none")]).err().unwrap();
        assert!(matches!(absent, ProfileError::Absent { .. }), "{absent}");
        let elsewhere = read(CREDENTIALS, CONFIG, &[("AWS_PROFILE", "sso")]).err().unwrap();
        assert!(elsewhere.to_string().contains("export-credentials --profile sso"), "{elsewhere}");
        // The AWS tools assume the role, with the keys beside it.
        let config = "[profile other]\nrole_arn = r\nsource_profile = other\n";
        let elsewhere = read(CREDENTIALS, config, &[("AWS_PROFILE", "other")]).err().unwrap();
        assert!(matches!(elsewhere, ProfileError::Elsewhere { setting: ROLE, .. }), "{elsewhere}");
        let variables: Variables = [("HOME", "/nonexistent")].into_iter().collect();
        assert!(Profile::read(&variables).unwrap().keys().is_none());
    }
}
