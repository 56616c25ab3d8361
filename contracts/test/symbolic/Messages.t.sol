// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bridge} from "../../src/Bridge.sol";
import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {BridgeSettings} from "../../src/types/BridgeSettings.sol";
import {Key, KeyState, Role} from "../../src/types/Key.sol";
import {State} from "../../src/types/State.sol";
import {vm} from "../support/Vm.sol";
import {anyStorage, svm} from "./Svm.sol";

/// @notice Takes every signature, and denies any target it likes: what a quorum signs is not what the proof is about.
contract AnyKeys {
    bytes32 public constant stream = bytes32(uint256(0x5d));

    function requireSequencer(bytes32, bytes calldata) external pure returns (address) {
        return svm.createAddress("sequencer");
    }

    function requireAuthorized(bytes32, bytes calldata, bytes calldata) external pure returns (address) {
        return svm.createAddress("sequencer");
    }

    function requireQuorum(bytes32, bytes calldata) external pure {}

    function requireLive(address, Role) external pure {}

    function endings() external pure returns (uint32) {
        return uint32(svm.createUint(32, "endings"));
    }

    function keyOf(address) external pure returns (Key memory key) {
        key.state = svm.createUint(1, "is revoked") == 1 ? KeyState.Revoked : KeyState.Live;
    }

    function verifierOf(address) external pure returns (bool, bool) {
        return (false, svm.createUint(1, "was admitted") == 1);
    }
}

/// @notice A token and the wrapped native currency, with any balance at any time.
contract AnyToken {
    function balanceOf(address) external pure returns (uint256) {
        return svm.createUint(256, "balance");
    }

    function transfer(address, uint256) external pure returns (bool) {
        return true;
    }

    function transferFrom(address, address, uint256) external pure returns (bool) {
        return true;
    }

    function deposit() external payable {}
    function withdraw(uint256) external {}
}

/// @notice Takes a call or reverts, as it likes.
contract AnyTarget {
    fallback() external payable {
        require(svm.createUint(1, "is taken") == 1);
    }
}

/// @notice Whatever storage holds, whoever calls what, and whoever signed it: a message goes its way and no other does.
contract MessagesProof {
    /// All before the mappings, and those after.
    uint256 private constant SLOTS = 2;

    /// The fields of a message, by their place in it.
    uint256 private constant NONCE = 1;
    uint256 private constant TARGET = 2;
    uint256 private constant VALUE = 3;
    uint256 private constant TOKEN = 4;
    uint256 private constant AMOUNT = 5;

    Bridge private _bridge;
    AnyToken private _token;
    AnyTarget private _target;

    function setUp() public {
        ITeeKeyManager keys = ITeeKeyManager(address(new AnyKeys()));
        _token = new AnyToken();
        _target = new AnyTarget();
        address[] memory none = new address[](0);
        _bridge = new Bridge(BridgeSettings(address(0xa11ce), address(0x9a4d), keys, address(_token), address(0), none, none));
    }

    /// @custom:halmos --default-array-lengths 1 --default-bytes-lengths 0
    function check_finalStates_stay(address caller, uint64 nonce) public {
        anyStorage(address(_bridge), SLOTS);
        State before = _bridge.messageState(nonce);
        vm.assume(before == State.Completed || before == State.Rejected || before == State.Expired);
        bytes memory data = _anyCall();
        vm.assume(!_namesMessage(data) || _word(data, NONCE) == nonce);
        _callAs(caller, data);
        assert(_bridge.messageState(nonce) == before);
    }

    /// Nothing but the message that is named goes on, and nothing is left running. With messages that move nothing, or there is too much to
    /// look at; that what they move has no say in states is for the tests.
    /// @custom:halmos --default-array-lengths 1 --default-bytes-lengths 0
    function check_messages_goTheirWayAlone(address caller, uint64 nonce) public {
        anyStorage(address(_bridge), SLOTS);
        State before = _bridge.messageState(nonce);
        bytes memory data = _anyCall();
        bool isNamed = _namesMessage(data) && _word(data, NONCE) == nonce;
        if (_namesMessage(data)) {
            vm.assume(_word(data, VALUE) == 0);
            vm.assume(_word(data, AMOUNT) == 0);
        }
        _callAs(caller, data);
        State afterwards = _bridge.messageState(nonce);
        assert(isNamed || afterwards == before);
        assert(
            afterwards == before || (afterwards != State.NotStarted && afterwards != State.Executing && afterwards != State.PostExecution)
        );
    }

    /// Any function but the batches, which are loops over the same private functions and multiply what is to be looked at. Which target and
    /// token a message has makes no difference to states: these two do what they like.
    function _anyCall() private view returns (bytes memory data) {
        data = svm.createCalldata("Bridge");
        vm.assume(data.length >= 4);
        bytes4 selector = bytes4(data);
        vm.assume(selector != Bridge.initializeMessages.selector);
        vm.assume(selector != Bridge.handleMessages.selector);
        vm.assume(selector != Bridge.initializeAndHandleMessages.selector);
        if (_namesMessage(data)) {
            vm.assume(_word(data, TARGET) == uint160(address(_target)));
            vm.assume(_word(data, TOKEN) == uint160(address(_token)));
        }
    }

    function _callAs(address caller, bytes memory data) private {
        // The frame is called by the bridge alone: every other caller is told so first.
        vm.assume(caller != address(_bridge));
        vm.prank(caller);
        (bool isDone,) = address(_bridge).call(data);
        vm.assume(isDone);
    }

    function _namesMessage(bytes memory data) private pure returns (bool) {
        bytes4 selector = bytes4(data);
        return selector == Bridge.initializeMessage.selector || selector == Bridge.handleMessage.selector
            || selector == Bridge.initializeAndHandleMessage.selector || selector == Bridge.retryMessage.selector;
    }

    function _word(bytes memory data, uint256 index) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(add(add(data, 36), mul(index, 32)))
        }
    }
}
