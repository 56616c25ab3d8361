//! The units of `deploy/systemd`: systemd takes them, each starts a command that exists, and none has more rights than it needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use synddb_servers::{Program, need};

use crate::processes::{run, synddb};

/// What each unit says of itself, whatever it runs.
const HARDENED: [&str; 9] = [
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateDevices=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallFilter=@system-service",
    "Restart=on-failure",
    "LimitNOFILE=65536",
];

fn units() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let units: Vec<_> = files.map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect();
    assert_eq!(units.len(), 4, "{units:?}");
    units
}

#[test]
fn systemd_takes_every_unit() {
    if !need(Program::SystemdAnalyze) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut verify = Command::new(Program::SystemdAnalyze.find().unwrap());
    verify.args(["verify", "--man=no"]);
    for (file, text) in units() {
        // A template is checked as one of its instances.
        let name = file.file_name().unwrap().to_str().unwrap().replace("@.", "@orders.");
        let unit = folder.path().join(name);
        std::fs::write(&unit, text.replace("/usr/bin/synddb", env!("CARGO_BIN_EXE_synddb"))).unwrap();
        verify.arg(unit);
    }
    let done = verify.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.is_empty(), "{said}");
}

#[test]
fn every_unit_starts_a_command_that_exists_and_has_few_rights() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/configuration.md");
    let known = std::fs::read_to_string(reference).unwrap();
    for (file, text) in units() {
        let lines: Vec<&str> = text.lines().collect();
        for line in HARDENED {
            assert!(lines.contains(&line), "{} lacks {line}", file.display());
        }
        assert!(text.contains("DynamicUser=yes") || text.contains("User=synddb"), "{}", file.display());
        let start = lines.iter().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/synddb ")).unwrap();
        let mut words = start.split(' ');
        let (exit, help, errors) = run(synddb([words.next().unwrap(), "--help"]));
        assert_eq!(exit, 0, "{errors}");
        for option in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{start}: there is no {option}");
        }
        for variable in lines.iter().filter_map(|line| line.strip_prefix("Environment=SYNDDB_AGENT_")) {
            let name = format!("SYNDDB_AGENT_{}", variable.split('=').next().unwrap());
            assert!(known.contains(&name), "nothing reads {name}");
        }
    }
}
