//! Everything that a row passes on its way to a transaction, as processes: a sequencer, validators with a key and a folder each, a relayer, and a chain.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use synddb_protocol::id::StreamId;
use synddb_servers::Port;
use synddb_service::secret::signing_key;
use synddb_sqlite::rusqlite::Connection;

use super::chain::{CHAIN_ID, Chain, Holder, State, until};
use super::foundry::Foundry;
use crate::keys::get;
use crate::processes::{run, synddb};
use crate::roles::{Role, sequencer_as, store, write_token};

/// What is in custody at the beginning, in wei.
pub(crate) const CUSTODY: u128 = 1_000_000_000;

/// Who is paid.
pub(crate) const RECIPIENT: &str = "0x00000000000000000000000000000000000a11ce";

/// What the relayer pays gas of, in wei.
pub(crate) const PURSE: &str = "0x56bc75e2d63100000";

/// Between two looks of the relayer, in milliseconds.
const POLL_MS: &str = "200";

/// What a system begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) validators: usize,
    pub(crate) threshold: usize,
}

/// A process that is started again where it was.
pub(crate) struct Service {
    role: Option<Role>,
    /// Where it listens; nobody else does while it does not run.
    port: Port,
}

impl Service {
    fn idle() -> Self {
        Self { role: None, port: Port::take().unwrap() }
    }

    fn address(&self) -> String {
        self.port.address().to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    fn start(&mut self, command: Command) {
        let role = Role::start(command);
        role.event("listening", |_| true);
        self.role = Some(role);
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut role) = self.role.take() {
            role.kill();
        }
    }
}

/// The whole.
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) app: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) chain: Chain,
    pub(crate) stream: StreamId,
    pub(crate) sequencer: Service,
    /// The folder of the machine that the sequencer runs on, and of its key.
    machine: String,
    pub(crate) validators: Vec<Service>,
    pub(crate) relayer: Service,
    pub(crate) agent: Option<Role>,
    /// Whether the relayer brings checkpoints as well.
    pub(crate) checkpoints: bool,
    /// The nodes that tell the sequencer and validators what the bridge has for the application.
    pub(crate) nodes: Vec<String>,
    /// Whether the sequencer asks them.
    pub(crate) is_brought: bool,
    /// What sequencer and validators are told beside that, as variables of their environment.
    pub(crate) variables: Vec<(String, String)>,
    key: String,
}

impl World {
    /// Starts all but the relayer over an application that has the message tables.
    pub(crate) fn begin(folder: &Path, foundry: Foundry, size: Size) -> Self {
        let mut world = Self::prepare(folder, foundry, size);
        world.start();
        world
    }

    /// A chain with the contracts and [`CUSTODY`], and an application that has the message tables. Nothing else runs.
    pub(crate) fn prepare(folder: &Path, foundry: Foundry, size: Size) -> Self {
        let (app, home) = (folder.join("app.db"), folder.join("app.db-synddb"));
        std::fs::create_dir(folder.join("store")).unwrap();
        write_token(folder);
        let stream = synddb_agent::stream_of(&home).unwrap();
        let chain = Chain::start(foundry, folder, stream, size.threshold);
        let signer = signing_key(&folder.join("sequencer.key")).unwrap();
        chain.register(Holder::Sequencer, signer.verifying_key());
        let key = signer.verifying_key().to_string();
        let validators = (0..size.validators).map(|_| Service::idle()).collect();
        let folder = folder.to_owned();
        let (sequencer, relayer) = (Service::idle(), Service::idle());
        let world = Self {
            folder,
            app,
            home,
            chain,
            stream,
            sequencer,
            machine: "sequencer".to_owned(),
            validators,
            relayer,
            agent: None,
            checkpoints: false,
            nodes: Vec::new(),
            is_brought: true,
            variables: Vec::new(),
            key,
        };
        world.chain.fund(CUSTODY);
        Self::make_application(&world.app);
        for number in 0..size.validators {
            let own = world.own(number);
            std::fs::create_dir(&own).unwrap();
            let signer = signing_key(&own.join("endorse.key")).unwrap();
            world.chain.register(Holder::Validator, signer.verifying_key());
        }
        world
    }

    /// Starts all but the relayer.
    pub(crate) fn start(&mut self) {
        self.start_sequencer();
        for number in 0..self.validators.len() {
            self.start_validator(number);
        }
        self.follow();
    }

    /// The same with two validators that must agree and a relayer, after one payment of 1000 wei to [`RECIPIENT`].
    pub(crate) fn begin_with_one_paid(folder: &Path, foundry: Foundry) -> Self {
        let mut world = Self::begin(folder, foundry, Size { validators: 2, threshold: 2 });
        world.start_relayer();
        assert_eq!(world.pay(RECIPIENT, 1_000), 1);
        world.chain.until(1, State::Completed);
        world
    }

    /// Makes a database of the application: its own table, and those of messages.
    pub(crate) fn make_application(app: &Path) {
        let database = Connection::open(app).unwrap();
        database.execute_batch("CREATE TABLE account(name TEXT PRIMARY KEY, wei INTEGER)").unwrap();
        let (exit, _, errors) = run(synddb(["init-messages", app.to_str().unwrap()]));
        assert_eq!(exit, 0, "{errors}");
    }

    /// Another file takes the place of the application's database.
    pub(crate) fn replace_application(&self, other: &Path) {
        for suffix in ["-wal", "-shm"] {
            std::fs::remove_file(self.app.with_file_name(format!("app.db{suffix}"))).ok();
        }
        std::fs::rename(other, &self.app).unwrap();
    }

    /// A connection of the application.
    pub(crate) fn database(&self) -> Connection {
        let database = Connection::open(&self.app).unwrap();
        database.busy_timeout(crate::roles::PATIENCE).unwrap();
        database
    }

    /// The folder of a validator.
    pub(crate) fn own(&self, validator: usize) -> PathBuf {
        self.folder.join(format!("validator-{validator}"))
    }

    pub(crate) fn start_sequencer(&mut self) {
        let mut command = sequencer_as(&self.folder, &self.machine, &self.sequencer.address());
        command.args(["--bridge-chain-id", CHAIN_ID, "--bridge", &self.chain.bridge()]);
        // On another machine nobody but the chain may have anything to say.
        command.args(["--stream", &self.stream.to_string()]);
        if self.is_brought {
            self.ask_nodes(&mut command);
        }
        self.sequencer.start(command);
    }

    /// Starts the sequencer on a machine that knows nothing but its key and the store.
    pub(crate) fn start_sequencer_elsewhere(&mut self) {
        let key = |machine: &str| self.folder.join(format!("{machine}.key"));
        let another = format!("{}-elsewhere", self.machine);
        std::fs::copy(key(&self.machine), key(&another)).unwrap();
        self.machine = another;
        self.start_sequencer();
    }

    pub(crate) fn start_validator(&mut self, number: usize) {
        let mut command = synddb(["validator", "--stop-on-eof", "--json"]);
        command.args(["--listen", &self.validators[number].address(), "--store", &store(&self.folder)]);
        command.args(["--stream", &self.stream.to_string(), "--sequencer-key", &self.key]);
        command.args(["--sequencer", &self.sequencer.url()]);
        command.arg("--replica").arg(self.replica(number));
        command.arg("--endorse-key").arg(self.own(number).join("endorse.key"));
        command.args(["--chain-id", CHAIN_ID, "--bridge", &self.chain.bridge()]);
        command.args(["--registry", &self.chain.at("CheckpointRegistry")]);
        self.ask_nodes(&mut command);
        self.validators[number].start(command);
    }

    fn ask_nodes(&self, command: &mut Command) {
        for node in &self.nodes {
            command.args(["--rpc", node]);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// Has sequencer and validators ask these nodes, and tells them something of `[nodes]` and `[deadlines]`, by the names of the keys.
    pub(crate) fn name_nodes(&mut self, nodes: &[&str], keys: &[(&str, &str)]) {
        self.nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        for (key, value) in keys {
            for of in ["SYNDDB_SEQUENCER", "SYNDDB_VALIDATOR_ENDORSE_"] {
                self.variables.push((format!("{of}_{key}"), (*value).to_owned()));
            }
        }
    }

    /// The same with the chain's own node, of which one block more makes a message final.
    pub(crate) fn name_its_node(&mut self, keys: &[(&str, &str)]) {
        let node = self.chain.url.clone();
        self.name_nodes(
            &[&node],
            &[&[("NODES__FINALITY", "{depth=1}"), ("NODES__POLL_MS", "100")], keys].concat(),
        );
    }

    pub(crate) fn replica(&self, validator: usize) -> PathBuf {
        self.own(validator).join("replica.db")
    }

    /// Starts a relayer over the sequencer and the chain of this value.
    pub(crate) fn start_relayer(&mut self) {
        let (sequencer, chain) = (self.sequencer.url(), self.chain.url.clone());
        self.start_relayer_between(&sequencer, &chain);
    }

    /// The account that the relayer pays gas of.
    pub(crate) fn account(&self) -> String {
        signing_key(&self.folder.join("relayer").join("account.key")).unwrap().id().to_string()
    }

    /// Starts a relayer that asks somebody else.
    pub(crate) fn start_relayer_between(&mut self, sequencer: &str, chain: &str) {
        let dir = self.folder.join("relayer");
        std::fs::create_dir_all(&dir).unwrap();
        let key = dir.join("account.key");
        let account = self.account();
        self.chain.rpc("anvil_setBalance", &[&account, PURSE]);
        let mut command = synddb(["relayer", "--stop-on-eof", "--json", "--listen", &self.relayer.address()]);
        command.args(["--rpc", chain, "--stream", &self.stream.to_string(), "--sequencer", sequencer]);
        command.arg("--deployments").arg(&self.chain.record).args(["--poll-ms", POLL_MS]);
        command.arg("--account").arg(key).arg("--dir").arg(dir);
        // Nothing becomes final on this chain but by its depth.
        command.env("SYNDDB_RELAYER_FINALITY", "{depth=1}");
        if self.checkpoints {
            command.env("SYNDDB_RELAYER_CHECKPOINTS", "true").env("SYNDDB_RELAYER_CHECKPOINT_EVERY_S", "1");
        }
        // What fails is looked at again soon.
        command.env("SYNDDB_RELAYER_RETRY__PAUSE_MS_MAX", "1000");
        for validator in &self.validators {
            command.args(["--validator", &validator.url()]);
        }
        self.relayer.start(command);
    }

    /// Follows the application's database, and returns when it is attached.
    pub(crate) fn follow(&mut self) {
        let mut command = synddb(["follow", "--json", "--stop-on-eof", "--sequencer-key", &self.key]);
        command.args(["--sequencer", &self.sequencer.url()]);
        command.arg(&self.app).arg("--dir").arg(&self.home);
        command.arg("--token-file").arg(self.folder.join("token"));
        let agent = Role::start(command);
        agent.how();
        self.agent = Some(agent);
    }

    /// The application pays somebody, and says so in the same transaction; the row's id.
    pub(crate) fn pay(&self, target: &str, wei: u128) -> u64 {
        let mut database = self.database();
        let transaction = database.transaction().unwrap();
        let account = "INSERT INTO account VALUES(?1, ?2) ON CONFLICT DO UPDATE SET wei = wei + ?2";
        transaction.execute(account, (target, i64::try_from(wei).unwrap())).unwrap();
        let message = "INSERT INTO outbound_messages(target, value) VALUES(?1, ?2)";
        transaction.execute(message, (target, wei.to_string())).unwrap();
        let id = transaction.last_insert_rowid();
        transaction.commit().unwrap();
        u64::try_from(id).unwrap()
    }

    /// The application asks for a call, with further columns of the row; the row's id.
    pub(crate) fn ask(&self, target: &str, further: &[(&str, &str)]) -> u64 {
        let database = self.database();
        let (names, values): (Vec<&str>, Vec<&str>) = further.iter().copied().unzip();
        let (names, values) = ([&["target"], &names[..]].concat(), [&["?1"], &values[..]].concat());
        let sql =
            format!("INSERT INTO outbound_messages({}) VALUES({})", names.join(", "), values.join(", "));
        database.execute(&sql, [target]).unwrap();
        u64::try_from(database.last_insert_rowid()).unwrap()
    }

    /// What the sequencer answers.
    pub(crate) fn asked(&self, path: &str) -> Value {
        serde_json::from_str(&get(&format!("{}/{path}", self.sequencer.url()))).unwrap_or_default()
    }

    /// What a validator answers.
    pub(crate) fn said(&self, path: &str, validator: usize) -> Value {
        serde_json::from_str(&get(&format!("{}/{path}", self.validators[validator].url())))
            .unwrap_or_default()
    }

    /// The newest checkpoint that a validator has endorsed, as it says itself; null while there is none.
    pub(crate) fn newest_endorsed(&self, validator: usize) -> Value {
        self.said("endorsements", validator)
    }

    /// What a validator says of a row; `None` where it knows nothing of it.
    pub(crate) fn said_by(&self, validator: usize, nonce: u64) -> Option<Value> {
        let answer = get(&format!("{}/outbound/{nonce}", self.validators[validator].url()));
        let answer: Value = serde_json::from_str(&answer).ok()?;
        answer["state"].is_string().then_some(answer)
    }

    /// Waits until a validator says this of a row.
    pub(crate) fn until_said(&self, validator: usize, nonce: u64, state: &str) -> Value {
        until(&format!("validator {validator} says `{state}` of {nonce}"), || {
            let said = self.said_by(validator, nonce);
            said.clone().filter(|said| said["state"] == state).ok_or_else(|| {
                let status = self.said("status", validator);
                format!("{said:?}; {}, refused {}", status["endorsing"], status["refused"])
            })
        })
    }

    /// Waits until the sequencer has signed a row.
    pub(crate) fn until_sequenced(&self, nonce: u64) -> Value {
        let url = format!("{}/messages/outbound/{nonce}/status", self.sequencer.url());
        until(&format!("the sequencer signs {nonce}"), || {
            let answer = get(&url);
            let said: Value = serde_json::from_str(&answer).unwrap_or_default();
            if said["state"] == "signed" { Ok(said) } else { Err(answer) }
        })
    }

    /// Waits until a validator has applied everything, and makes sure that its replica is the application's database.
    pub(crate) fn assert_replica_equals(&self, validator: usize) {
        let arguments = ["wait", self.app.to_str().unwrap(), "--dir", self.home.to_str().unwrap(), "--json"];
        let url = self.validators[validator].url();
        let waits = ["--applied", "--timeout", crate::roles::PATIENCE_TEXT, "--validator", &url];
        let (exit, told, errors) = run(synddb(arguments.into_iter().chain(waits)));
        assert_eq!(exit, 0, "{told}{errors}");
        let (exit, told, errors) = crate::processes::diff(&self.app, &self.replica(validator));
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    }
}
