// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bridge} from "../../src/Bridge.sol";
import {CheckpointRegistry} from "../../src/CheckpointRegistry.sol";
import {ModuleCheckRegistry} from "../../src/ModuleCheckRegistry.sol";
import {TeeKeyManager} from "../../src/attestation/TeeKeyManager.sol";
import {RateLimit} from "../../src/modules/RateLimit.sol";
import {IModuleCheckRegistry} from "../../src/interfaces/IModuleCheckRegistry.sol";
import {Checkpoint} from "../../src/types/Checkpoint.sol";
import {BridgeSettings} from "../../src/types/BridgeSettings.sol";
import {AdmittedImage, AdmittedVerifier, Role} from "../../src/types/Key.sol";
import {Message} from "../../src/types/Message.sol";
import {State} from "../../src/types/State.sol";
import {AlwaysYesVerifier} from "./AlwaysYesVerifier.sol";
import {Counter} from "./Targets.sol";
import {IMintable, PlainToken, TestWETH} from "./Tokens.sol";
import {Vm, vm} from "./Vm.sol";

/// @notice A bridge with one sequencer and four validators, of which three are a quorum.
abstract contract Fixture {
    /// Tells forge that assertions revert.
    bool public constant IS_TEST = true;

    bytes32 internal constant STREAM = bytes32(uint256(0x5d));
    bytes32 internal constant SEQUENCER_IMAGE = keccak256("sequencer image");
    bytes32 internal constant VALIDATOR_IMAGE = keccak256("validator image");
    address internal constant OWNER = address(0xa11ce);
    address internal constant GUARDIAN = address(0x9a4d);
    address internal constant INSTALLER = address(0x1457);
    address internal constant USER = address(0x05e4);
    uint256 internal constant SEQUENCER = 0x5e9;
    uint256 internal constant STRANGER = 0xbad;
    uint256 internal constant VALIDATORS = 4;
    uint32 internal constant THRESHOLD = 3;
    uint64 internal constant KEY_LIFE = 30 days;

    TeeKeyManager internal keys;
    AlwaysYesVerifier internal verifier;
    CheckpointRegistry internal checkpoints;
    Bridge internal bridge;
    ModuleCheckRegistry internal modules;
    TestWETH internal weth;
    PlainToken internal token;
    Counter internal counter;
    /// Secrets of validators, in ascending order of their addresses.
    uint256[] internal validators;

    function setUp() public virtual {
        vm.warp(1_900_000_000);
        vm.roll(1000);
        verifier = new AlwaysYesVerifier();
        keys = newKeys(OWNER);
        registerKey(SEQUENCER, Role.Sequencer);
        for (uint256 i = 0; i < VALIDATORS; i++) {
            addValidator(0xa0 + i);
        }

        weth = new TestWETH();
        token = new PlainToken();
        checkpoints = CheckpointRegistry(deploy("CheckpointRegistry", abi.encode(keys)));
        address[] memory denied = new address[](1);
        denied[0] = address(checkpoints);
        bridge = newBridge(keys, denied);
        modules = ModuleCheckRegistry(address(bridge.MODULES()));
        counter = new Counter();
        fund(100 ether, 1_000_000);
    }

    function newKeys(address owner) internal returns (TeeKeyManager) {
        AdmittedVerifier[] memory verifiers = new AdmittedVerifier[](1);
        verifiers[0] = AdmittedVerifier(address(verifier), address(verifier).codehash);
        AdmittedImage[] memory images = new AdmittedImage[](2);
        images[0] = AdmittedImage(SEQUENCER_IMAGE, Role.Sequencer);
        images[1] = AdmittedImage(VALIDATOR_IMAGE, Role.Validator);
        return TeeKeyManager(deploy("TeeKeyManager", abi.encode(owner, STREAM, KEY_LIFE, THRESHOLD, verifiers, images)));
    }

    function newBridge(TeeKeyManager keys_, address[] memory denied) internal returns (Bridge) {
        return Bridge(payable(deploy("Bridge", abi.encode(bridgeSettings(keys_, denied)))));
    }

    function bridgeSettings(TeeKeyManager keys_, address[] memory denied) internal view returns (BridgeSettings memory) {
        address[] memory tokens = new address[](1);
        tokens[0] = address(token);
        return BridgeSettings(OWNER, GUARDIAN, keys_, address(weth), INSTALLER, tokens, denied);
    }

    /// Deploys what would be deployed on a chain, optimised as for one, whatever the tests themselves are compiled with. A run that has all
    /// compiled in another way, as that of coverage has, says so: it finds contracts by their names.
    function deploy(string memory name, bytes memory arguments) internal returns (address) {
        return vm.deployCode(artifact(name), arguments);
    }

    function artifact(string memory name) internal view returns (string memory) {
        bool isByName = vm.envOr("CONTRACTS_BY_NAME", false);
        string memory file = string.concat(name, ".sol");
        return isByName ? string.concat(file, ":", name) : string.concat("out/", file, "/", name, ".json");
    }

    /// A limit of nothing yet.
    function newLimit(uint64 period, uint64 delay) internal returns (RateLimit) {
        RateLimit.Limit[] memory none;
        return RateLimit(deploy("RateLimit", abi.encode(modules, OWNER, weth, period, delay, none)));
    }

    /// Has deposits of a token taken.
    function admit(address one) internal {
        vm.prank(OWNER);
        bridge.setTokenAdmitted(one, true);
    }

    /// Registers a validator's key and keeps the list in order.
    function addValidator(uint256 secret) internal {
        registerKey(secret, Role.Validator);
        validators.push(secret);
        for (uint256 i = validators.length - 1; i > 0 && vm.addr(validators[i]) < vm.addr(validators[i - 1]); i--) {
            (validators[i], validators[i - 1]) = (validators[i - 1], validators[i]);
        }
    }

    function registerKey(uint256 secret, Role role) internal returns (address) {
        bytes32 image = role == Role.Sequencer ? SEQUENCER_IMAGE : VALIDATOR_IMAGE;
        return keys.registerKey(role, publicKey(secret), block.number - 1, address(verifier), abi.encode(image));
    }

    function publicKey(uint256 secret) internal returns (bytes memory) {
        Vm.Wallet memory wallet = vm.createWallet(secret);
        return abi.encode(wallet.publicKeyX, wallet.publicKeyY);
    }

    /// Puts native currency and tokens into custody.
    function fund(uint256 native, uint256 tokens) internal {
        vm.deal(USER, native);
        vm.prank(USER);
        bridge.depositNative{value: native}("");
        token.mint(USER, tokens);
        deposit(address(token), tokens);
    }

    /// The user deposits what they have.
    function deposit(address one, uint256 amount) internal {
        vm.startPrank(USER);
        IMintable(one).approve(address(bridge), amount);
        bridge.deposit(one, amount, "");
        vm.stopPrank();
    }

    /// A new token: admitted, and some of it deposited by the user.
    function bring(address one, uint256 amount) internal {
        admit(one);
        IMintable(one).mint(USER, amount);
        deposit(one, amount);
    }

    /// A message that calls the counter and moves nothing.
    function call(uint64 nonce) internal view returns (Message memory) {
        return callTo(nonce, address(counter), abi.encodeCall(Counter.count, ()));
    }

    function callTo(uint64 nonce, address target, bytes memory payload) internal view returns (Message memory) {
        return Message({
            stream: STREAM,
            nonce: nonce,
            target: target,
            value: 0,
            token: address(0),
            amount: 0,
            payloadHash: keccak256(payload),
            gasLimit: 100_000,
            deadline: uint64(block.timestamp + 1 days),
            inboxConsumed: 0
        });
    }

    function countPayload() internal pure returns (bytes memory) {
        return abi.encodeCall(Counter.count, ());
    }

    function sign(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    /// The signatures of the first so many validators, in order.
    function quorum(bytes32 digest, uint256 count) internal view returns (bytes memory signatures) {
        for (uint256 i = 0; i < count; i++) {
            signatures = bytes.concat(signatures, sign(validators[i], digest));
        }
    }

    /// What an honest relayer brings with a message.
    function signed(Message memory message) internal view returns (bytes memory sequencer, bytes memory validatorSignatures) {
        bytes32 digest = bridge.messageDigest(message);
        return (sign(SEQUENCER, digest), quorum(digest));
    }

    function quorum(bytes32 digest) internal view returns (bytes memory) {
        return quorum(digest, THRESHOLD);
    }

    function initialize(Message memory message) internal {
        bridge.initializeMessage(message, sign(SEQUENCER, bridge.messageDigest(message)));
    }

    function handle(Message memory message, bytes memory payload) internal returns (State) {
        return bridge.handleMessage(message, payload, quorum(bridge.messageDigest(message)));
    }

    /// Brings and executes a message as an honest relayer does.
    function perform(Message memory message, bytes memory payload) internal returns (State) {
        bytes32 digest = bridge.messageDigest(message);
        return bridge.initializeAndHandleMessage(message, payload, sign(SEQUENCER, digest), quorum(digest));
    }

    function setModule(address module, bool inPre, bool inPost) internal {
        IModuleCheckRegistry.Entry[] memory list = new IModuleCheckRegistry.Entry[](1);
        list[0] = IModuleCheckRegistry.Entry(module, inPre, inPost);
        vm.prank(OWNER);
        modules.setModules(list);
    }

    function checkpoint(uint64 sequence) internal view returns (Checkpoint memory) {
        return Checkpoint({
            stream: STREAM,
            epoch: 1,
            sequence: sequence,
            timestamp: uint64(block.timestamp * 1000),
            root: keccak256(abi.encode("root", sequence)),
            stateHash: keccak256(abi.encode("state", sequence)),
            inboxConsumed: 0
        });
    }

    function assertState(State given, State wanted) internal pure {
        vm.assertEq(uint256(given), uint256(wanted), "state");
    }
}
