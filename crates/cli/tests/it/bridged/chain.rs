//! A chain of this machine with the contracts on it, and what tests ask of it: through the programs of the toolchain, which know nothing of ours.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use synddb_protocol::id::StreamId;
use synddb_protocol::signing::VerifyingKey;

use super::foundry::Foundry;
use super::front::{Front, address, pass_on};
use crate::roles::PATIENCE;

/// The one chain on which the verifier is deployed that believes everything.
pub(crate) const CHAIN_ID: &str = "31337";

/// The first account of every anvil, which has money: its secret is in anvil's documentation.
pub(crate) const SECRET: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// That account.
pub(crate) const OWNER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

/// Between two looks at the chain.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// One deployment after the other: forge compiles into one folder.
static FORGE: Mutex<()> = Mutex::new(());

/// Where a message is, as the contract counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    NotStarted,
    PreExecution,
    Completed,
    Failed,
    Ended,
}

/// The role of a key, as the contract counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holder {
    Sequencer,
    Validator,
}

/// A chain that ends with this value.
pub(crate) struct Chain {
    foundry: Foundry,
    child: Child,
    pub(crate) url: String,
    /// Where it tells of new blocks.
    pub(crate) ws: String,
    deployed: Value,
    /// Where the record of what is deployed lies.
    pub(crate) record: PathBuf,
}

impl Chain {
    /// Starts a chain and deploys the contracts of a stream.
    pub(crate) fn start(foundry: Foundry, folder: &Path, stream: StreamId, threshold: usize) -> Self {
        let mut command = Command::new(&foundry.anvil);
        command.args(["--port", "0", "--chain-id", CHAIN_ID, "--hardfork", "osaka"]);
        // Blocks come by themselves all the same, as elsewhere (`front`), and are final soon.
        command.args(["--no-mining", "--slots-in-an-epoch", "1"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned));
        // What else it says is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let address = address.expect("anvil ended before it listened");
        let (url, ws) = (Front::start(&address), format!("ws://{address}"));
        let mut chain = Self { foundry, child, url, ws, deployed: Value::Null, record: PathBuf::new() };
        chain.deploy(folder, stream, threshold);
        chain
    }

    fn deploy(&mut self, folder: &Path, stream: StreamId, threshold: usize) {
        let one = FORGE.lock().unwrap_or_else(PoisonError::into_inner);
        // Below the only folder in which forge lets a script write.
        let records = format!("out/deployments/{stream}");
        let mut forge = Command::new(&self.foundry.forge);
        forge.current_dir(&self.foundry.contracts).args([
            "script",
            "script/DeployLocal.s.sol",
            "--broadcast",
        ]);
        forge.args(["--rpc-url", &self.url, "--private-key", SECRET]);
        forge.env("SYNDDB_STREAM", stream.to_string()).env("SYNDDB_THRESHOLD", threshold.to_string());
        forge.env("SYNDDB_DEPLOYMENTS", &records).env("FOUNDRY_BROADCAST", folder.join("broadcast"));
        let done = forge.output().unwrap();
        drop(one);
        let said = [done.stdout, done.stderr].concat();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&said));
        let records = self.foundry.contracts.join(records);
        self.record = folder.join("deployments").join(format!("{CHAIN_ID}.json"));
        std::fs::create_dir_all(self.record.parent().unwrap()).unwrap();
        let text = std::fs::read_to_string(records.join(format!("{CHAIN_ID}.json"))).unwrap();
        std::fs::remove_dir_all(records).unwrap();
        std::fs::write(&self.record, &text).unwrap();
        let record: Value = serde_json::from_str(&text).unwrap();
        self.deployed = record["streams"][stream.to_string()].clone();
        assert!(self.deployed.is_object(), "{record}");
    }

    /// Where a contract is.
    pub(crate) fn at(&self, contract: &str) -> String {
        text(&self.deployed["contracts"][contract]["address"])
    }

    /// The bridge.
    pub(crate) fn bridge(&self) -> String {
        self.at("Bridge")
    }

    /// The wrapped native currency.
    pub(crate) fn wrapped(&self) -> String {
        text(&self.deployed["configuration"]["wrappedNative"])
    }

    /// Registers a key, as whoever holds one of an admitted image may.
    pub(crate) fn register(&self, holder: Holder, key: &VerifyingKey) {
        let (role, image) = match holder {
            Holder::Sequencer => ("1", &self.deployed["configuration"]["images"][0]["digest"]),
            Holder::Validator => ("2", &self.deployed["configuration"]["images"][1]["digest"]),
        };
        let point = format!("0x{}", hex::encode(key.to_point()));
        let block = self.cast(&["block-number"]);
        let before = (block.parse::<u64>().unwrap() - 1).to_string();
        let verifier = text(&self.deployed["configuration"]["verifiers"][0]["verifier"]);
        const CALL: &str = "registerKey(uint8,bytes,uint256,address,bytes)";
        self.send(&self.at("TeeKeyManager"), CALL, &[role, &point, &before, &verifier, &text(image)]);
    }

    /// Puts native currency into custody.
    pub(crate) fn fund(&self, wei: u128) {
        let value = format!("{wei}wei");
        self.send_with(&self.bridge(), "depositNative(bytes)", &["0x"], &["--value", &value]);
    }

    /// The same, without waiting for the block: many come into one.
    pub(crate) fn fund_soon(&self, wei: u128) {
        let data = self.data("depositNative(bytes)", &["0x"]);
        let transaction = json!({"from": OWNER, "to": self.bridge(), "value": format!("0x{wei:x}"), "data": data, "gas": "0x30d40"});
        let ask =
            json!({"jsonrpc": "2.0", "id": 1, "method": "eth_sendTransaction", "params": [transaction]});
        let told = pass_on(address(&self.url), ask.to_string().as_bytes()).unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert!(told["result"].is_string(), "{told}");
    }

    /// How many messages the bridge has for the application.
    pub(crate) fn inbound_count(&self) -> u64 {
        self.call(&self.bridge(), "inboundCount()(uint64)", &[]).parse().unwrap()
    }

    /// Sends a transaction from the first account, which must succeed.
    pub(crate) fn send(&self, to: &str, call: &str, arguments: &[&str]) {
        self.send_with(to, call, arguments, &[]);
    }

    fn send_with(&self, to: &str, call: &str, arguments: &[&str], more: &[&str]) {
        // By name and without a signature, so that two at once do not take one number.
        let head = ["send", "--json", "--unlocked", "--from", OWNER];
        let sent = self.cast(&[&head[..], more, &[to, call], arguments].concat());
        let receipt: Value = serde_json::from_str(&sent).unwrap();
        assert_eq!(receipt["status"], "0x1", "{call}: {receipt}");
    }

    /// What a contract answers.
    pub(crate) fn call(&self, to: &str, call: &str, arguments: &[&str]) -> String {
        let answer = self.cast(&[&["call", to, call], arguments].concat());
        // A large number is followed by the same with an exponent.
        answer.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Compiles a contract of the contracts' own tests and puts it on the chain; its address.
    pub(crate) fn put(&self, file: &str, contract: &str, folder: &Path) -> String {
        self.put_with(&format!("test/support/{file}"), contract, "", folder)
    }

    /// Has every message wait for a checkpoint on the chain that has counted what the application knew.
    pub(crate) fn ask_for_checkpoints(&self, folder: &Path) {
        const AGE_MS_MAX: &str = "86400000";
        let modules = self.call(&self.bridge(), "MODULES()(address)", &[]);
        let arguments = [&modules, &self.at("CheckpointRegistry"), AGE_MS_MAX];
        let arguments = self.cast(&[&["abi-encode", "f(address,address,uint256)"], &arguments[..]].concat());
        let file = "src/modules/CheckpointFreshness.sol";
        let module = self.put_with(file, "CheckpointFreshness", arguments.trim_start_matches("0x"), folder);
        let entries = format!("[({module},true,false)]");
        self.decide(&modules, "setModules((address,bool,bool)[])", &[&entries]);
    }

    fn put_with(&self, source: &str, contract: &str, arguments: &str, folder: &Path) -> String {
        let file = source.rsplit('/').next().unwrap();
        let (out, cache) = (folder.join("out"), folder.join("cache"));
        let mut forge = Command::new(&self.foundry.forge);
        forge.current_dir(&self.foundry.contracts).args(["build", source]);
        let done = forge.arg("--out").arg(&out).arg("--cache-path").arg(&cache).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&said));
        let artifact = std::fs::read_to_string(out.join(file).join(format!("{contract}.json"))).unwrap();
        let artifact: Value = serde_json::from_str(&artifact).unwrap();
        let code = text(&artifact["bytecode"]["object"]) + arguments;
        let sent = self.cast(&["send", "--json", "--unlocked", "--from", OWNER, "--create", &code]);
        let receipt: Value = serde_json::from_str(&sent).unwrap();
        text(&receipt["contractAddress"]).to_ascii_lowercase()
    }

    /// The call data of a call.
    pub(crate) fn data(&self, call: &str, arguments: &[&str]) -> String {
        self.cast(&[&["calldata", call], arguments].concat())
    }

    /// Has the timelock that owns everything do something: its delay is none here.
    pub(crate) fn decide(&self, to: &str, call: &str, arguments: &[&str]) {
        let (timelock, data) = (self.at("TimelockController"), self.data(call, arguments));
        let zero = format!("0x{}", "0".repeat(64));
        let planned = [to, "0", &data, &zero, &zero];
        const SCHEDULE: &str = "schedule(address,uint256,bytes,bytes32,bytes32,uint256)";
        self.send(&timelock, SCHEDULE, &[&planned[..], &["0"]].concat());
        self.send(&timelock, "execute(address,uint256,bytes,bytes32,bytes32)", &planned);
    }

    /// The native currency of an account, in wei.
    pub(crate) fn balance(&self, account: &str) -> u128 {
        self.cast(&["balance", account]).parse().unwrap()
    }

    /// Transactions of an account that are in blocks.
    pub(crate) fn transactions(&self, account: &str) -> u64 {
        self.cast(&["nonce", account]).parse().unwrap()
    }

    /// What messages may still move of a token.
    pub(crate) fn custody(&self, token: &str) -> u128 {
        self.call(&self.bridge(), "custodyOf(address)(uint256)", &[token]).parse().unwrap()
    }

    /// Where a message is.
    pub(crate) fn state(&self, nonce: u64) -> State {
        match self.call(&self.bridge(), "messageState(uint64)(uint8)", &[&nonce.to_string()]).as_str() {
            "0" => State::NotStarted,
            "1" => State::PreExecution,
            "4" => State::Completed,
            "5" => State::Failed,
            "6" | "7" => State::Ended,
            other => panic!("a transaction ended in the middle: {other}"),
        }
    }

    /// Waits until a message is there.
    pub(crate) fn until(&self, nonce: u64, wanted: State) {
        until(&format!("message {nonce} is {wanted:?}"), || {
            let found = self.state(nonce);
            if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }

    /// Makes blocks.
    pub(crate) fn mine(&self, blocks: u64) {
        self.rpc("anvil_mine", &[&format!("0x{blocks:x}")]);
    }

    /// The time of the newest block, in seconds. Blocks that are made quickly may be ahead of the clock.
    pub(crate) fn now(&self) -> u64 {
        self.cast(&["block", "latest", "--field", "timestamp"]).parse().unwrap()
    }

    /// Has the node do something, as it is named over JSON-RPC.
    pub(crate) fn rpc(&self, method: &str, parameters: &[&str]) -> String {
        self.cast(&[&["rpc", method], parameters].concat())
    }

    fn cast(&self, arguments: &[&str]) -> String {
        let mut cast = Command::new(&self.foundry.cast);
        let done = cast.args(arguments).env("ETH_RPC_URL", &self.url).output().unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Looks until something is so; what was found last is told when it does not come.
pub(crate) fn until<T>(what: &str, look: impl Fn() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let last = match look() {
            Ok(found) => return found,
            Err(last) => last,
        };
        assert!(Instant::now() < deadline, "it did not come in time: {what}; found {last}");
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// Waits until a time is over, in milliseconds since 1970.
pub(crate) fn until_past(ms: u64) {
    until(&format!("{ms} ms are over"), || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        if now > u128::from(ms) { Ok(()) } else { Err(now.to_string()) }
    });
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
