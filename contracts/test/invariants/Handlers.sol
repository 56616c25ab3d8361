// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bridge} from "../../src/Bridge.sol";
import {TeeKeyManager} from "../../src/attestation/TeeKeyManager.sol";
import {Key, KeyState, Role} from "../../src/types/Key.sol";
import {Message} from "../../src/types/Message.sol";
import {State} from "../../src/types/State.sol";
import {Fixture} from "../support/Fixture.sol";
import {LogSigner} from "../support/LogSigner.sol";
import {PlainToken, TestWETH} from "../support/Tokens.sol";
import {vm} from "../support/Vm.sol";

/// @notice Counts for each nonce how often it was executed, and does something odd.
contract Recorder {
    uint256[16] public executions;
    bool public isFailing;

    function setFailing(bool isFailing_) external {
        isFailing = isFailing_;
    }

    function execute(uint64 nonce, uint8 oddity) external payable {
        require(!isFailing);
        executions[nonce]++;
        if (oddity % 4 == 1) {
            (bool isSent,) = msg.sender.call{value: msg.value / 2}("");
            require(isSent);
        }
        if (oddity % 4 == 2) {
            while (true) {}
        }
    }
}

/// @notice Everything that can be done to a bridge, in any order, with few nonces so that they meet.
contract BridgeHandler is Fixture {
    uint64 public constant NONCES = 16;

    Recorder public recorder;
    /// What each message looked like when it was last brought, for retries.
    mapping(uint64 nonce => Message) private _last;
    mapping(uint64 nonce => bytes) private _payloads;
    /// The final state that a nonce was seen in.
    mapping(uint64 nonce => State) public finalState;
    /// Whether a final state was seen to change.
    bool public hasFinalChanged;
    uint256 public inboundSeen;

    constructor() {
        setUp();
        recorder = new Recorder();
        inboundSeen = bridge.inboundCount();
    }

    function perform(uint64 nonce, uint256 value, uint256 amount, uint8 oddity, uint8 target) external {
        nonce = nonce % NONCES;
        bytes memory payload = abi.encodeCall(Recorder.execute, (nonce, oddity));
        address to = target % 8 == 0 ? address(keys) : target % 8 == 1 ? address(0xe0a) : address(recorder);
        Message memory message = callTo(nonce, to, payload);
        message.value = value % 3 == 0 ? 0 : value % 20 ether;
        // Every fourth moves the wrapped form, which rests beside the native one.
        bool isWrapped = amount % 4 == 0;
        message.token = isWrapped ? address(weth) : address(token);
        message.amount = amount % 3 == 0 ? 0 : isWrapped ? amount % 20 ether : amount % 200_000;
        bytes32 digest = bridge.messageDigest(message);
        try bridge.initializeAndHandleMessage(message, payload, sign(SEQUENCER, digest), quorum(digest)) {
            _last[nonce] = message;
            _payloads[nonce] = payload;
        } catch {}
        _look();
    }

    function retry(uint64 nonce) external {
        nonce = nonce % NONCES;
        try bridge.retryMessage(_last[nonce], _payloads[nonce]) {} catch {}
        _look();
    }

    /// Too few signatures, under any nonce.
    function attack(uint64 nonce, uint8 count) external {
        nonce = nonce % NONCES;
        bytes memory payload = abi.encodeCall(Recorder.execute, (nonce, 0));
        Message memory message = callTo(nonce, address(recorder), payload);
        bytes32 digest = bridge.messageDigest(message);
        bool isAccepted;
        try bridge.initializeAndHandleMessage(message, payload, sign(SEQUENCER, digest), quorum(digest, count % THRESHOLD)) {
            isAccepted = true;
        } catch {}
        vm.assertTrue(!isAccepted);
        _look();
    }

    function initializeOther(uint64 nonce, uint256 value) external {
        nonce = nonce % NONCES;
        Message memory message = callTo(nonce, address(recorder), "");
        message.value = value;
        try bridge.initializeMessage(message, sign(SEQUENCER, bridge.messageDigest(message))) {} catch {}
        _look();
    }

    function depositNative(uint256 amount) external {
        amount = amount % 10 ether;
        vm.deal(USER, amount);
        vm.prank(USER);
        try bridge.depositNative{value: amount}("") returns (uint64 nonce) {
            vm.assertEq(nonce, ++inboundSeen);
        } catch {}
    }

    function depositWrapped(uint256 amount) external {
        amount = amount % 10 ether;
        vm.deal(USER, amount);
        vm.startPrank(USER);
        weth.deposit{value: amount}();
        weth.approve(address(bridge), amount);
        try bridge.deposit(address(weth), amount, "") returns (uint64 nonce) {
            vm.assertEq(nonce, ++inboundSeen);
        } catch {}
        vm.stopPrank();
    }

    function depositToken(uint256 amount) external {
        amount = amount % 1_000_000;
        token.mint(USER, amount);
        vm.startPrank(USER);
        token.approve(address(bridge), amount);
        try bridge.deposit(address(token), amount, "") returns (uint64 nonce) {
            vm.assertEq(nonce, ++inboundSeen);
        } catch {}
        vm.stopPrank();
    }

    function sendMessage() external {
        vm.assertEq(bridge.sendMessage(""), ++inboundSeen);
    }

    function setFailing(bool isFailing) external {
        recorder.setFailing(isFailing);
    }

    /// Native currency that anyone sends to the executor.
    function sendToExecutor(uint256 amount) external {
        vm.deal(address(this), amount % 1 ether);
        (bool isSent,) = bridge.executor().call{value: amount % 1 ether}("");
        vm.assertTrue(isSent);
    }

    function warp(uint32 elapsed) external {
        vm.warp(block.timestamp + elapsed % 8 hours);
    }

    function bridgeOf() external view returns (Bridge, PlainToken, TestWETH) {
        return (bridge, token, weth);
    }

    function _look() private {
        for (uint64 nonce = 0; nonce < NONCES; nonce++) {
            State state = bridge.messageState(nonce);
            State before = finalState[nonce];
            if (before != State.NotStarted && state != before) hasFinalChanged = true;
            if (state == State.Completed || state == State.Rejected || state == State.Expired) finalState[nonce] = state;
        }
    }
}

/// @notice Everything that can be done to keys, in any order.
contract KeyHandler is Fixture {
    uint256 public constant KEYS = 12;
    /// Validators have two: with one alone the count is zero once it is removed, and what is taken from zero reverts instead of being wrong.
    bytes32 private constant OTHER_IMAGE = keccak256("another validator image");

    /// The keys, in ascending order of their addresses.
    uint256[] private _secrets;
    address[] private _addresses;

    constructor() {
        setUp();
        vm.prank(OWNER);
        keys.admitImage(OTHER_IMAGE, Role.Validator);
        for (uint256 i = 0; i < KEYS; i++) {
            _secrets.push(0xa0 + i);
            _addresses.push(vm.addr(0xa0 + i));
            for (uint256 j = i; j > 0 && _addresses[j] < _addresses[j - 1]; j--) {
                (_secrets[j], _secrets[j - 1]) = (_secrets[j - 1], _secrets[j]);
                (_addresses[j], _addresses[j - 1]) = (_addresses[j - 1], _addresses[j]);
            }
        }
    }

    function register(uint256 secret, uint8 image) external {
        secret = 0xa0 + secret % KEYS;
        if (image % 3 == 0) registerKeyAnyway(secret, Role.Sequencer, SEQUENCER_IMAGE);
        else registerKeyAnyway(secret, Role.Validator, image % 3 == 1 ? VALIDATOR_IMAGE : OTHER_IMAGE);
    }

    function revoke(uint256 secret) external {
        vm.prank(OWNER);
        try keys.revokeKey(vm.addr(0xa0 + secret % KEYS)) {} catch {}
    }

    function retire(uint256 secret) external {
        try keys.retireKey(vm.addr(0xa0 + secret % KEYS)) {} catch {}
    }

    function freeze(uint256 secret) external {
        secret = 0xa0 + secret % KEYS;
        bytes memory first = LogSigner.receipt(secret, STREAM, 1, 5, keccak256("a"));
        bytes memory second = LogSigner.receipt(secret, STREAM, 1, 5, keccak256("b"));
        try keys.reportEquivocation(first, second) {} catch {}
    }

    function removeImage(uint8 image) external {
        // Seldom: nothing registers after it.
        if (image % 16 > 1) return;
        vm.prank(OWNER);
        try keys.removeImage(2 + image % 16) {} catch {}
    }

    function setThreshold(uint8 threshold) external {
        vm.prank(OWNER);
        try keys.setThreshold(threshold % 8) {} catch {}
    }

    function warp(uint32 elapsed) external {
        vm.warp(block.timestamp + elapsed % 5 days);
    }

    function keysOf() external view returns (TeeKeyManager) {
        return keys;
    }

    /// Validators that are in state Live, of an image that is not removed; and how many of them count now.
    function count() external view returns (uint256 known, uint256 live) {
        for (uint256 i = 0; i < KEYS; i++) {
            address key = _addresses[i];
            Key memory one = keys.keyOf(key);
            if (one.role != Role.Validator) continue;
            if (one.state == KeyState.Live && !keys.isImageRemoved(one.image)) known++;
            if (keys.isLive(key, Role.Validator)) live++;
        }
    }

    /// Whether all keys together, those that count not among them, are a quorum for anything.
    function hasQuorum(uint256 signers) external view returns (bool) {
        bytes32 digest = keccak256("anything");
        bytes memory signatures;
        // The live ones, in ascending order.
        for (uint256 i = 0; i < KEYS && signers > 0; i++) {
            if (!keys.isLive(_addresses[i], Role.Validator)) continue;
            signatures = bytes.concat(signatures, sign(_secrets[i], digest));
            signers--;
        }
        try keys.requireQuorum(digest, signatures) {
            return true;
        } catch {
            return false;
        }
    }

    function registerKeyAnyway(uint256 secret, Role role, bytes32 image) private {
        bytes memory key = publicKey(secret);
        try keys.registerKey(role, key, block.number - 1, address(verifier), abi.encode(image)) {} catch {}
    }
}

/// @notice Tells forge what to call.
abstract contract Invariant {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    bool public constant IS_TEST = true;

    address private _handler;
    bytes4[] private _selectors;

    function _useBridge() internal returns (BridgeHandler handler) {
        handler = BridgeHandler(vm.deployCode("Handlers.sol:BridgeHandler", ""));
        _handler = address(handler);
        _selectors = [
            BridgeHandler.perform.selector,
            // Twice: it is where most happens.
            BridgeHandler.perform.selector,
            BridgeHandler.retry.selector,
            BridgeHandler.attack.selector,
            BridgeHandler.initializeOther.selector,
            BridgeHandler.depositNative.selector,
            BridgeHandler.depositWrapped.selector,
            BridgeHandler.depositToken.selector,
            BridgeHandler.sendMessage.selector,
            BridgeHandler.setFailing.selector,
            BridgeHandler.sendToExecutor.selector,
            BridgeHandler.warp.selector
        ];
    }

    function _useKeys() internal returns (KeyHandler handler) {
        handler = KeyHandler(vm.deployCode("Handlers.sol:KeyHandler", ""));
        _handler = address(handler);
        _selectors = [
            KeyHandler.register.selector,
            KeyHandler.revoke.selector,
            KeyHandler.retire.selector,
            KeyHandler.freeze.selector,
            KeyHandler.removeImage.selector,
            KeyHandler.setThreshold.selector,
            KeyHandler.warp.selector
        ];
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = _handler;
    }

    function targetSelectors() external view returns (FuzzSelector[] memory selectors) {
        selectors = new FuzzSelector[](1);
        selectors[0] = FuzzSelector(_handler, _selectors);
    }
}
