// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bridge} from "../../src/Bridge.sol";
import {IBridge} from "../../src/interfaces/IBridge.sol";
import {IExecutor} from "../../src/interfaces/IExecutor.sol";
import {ITeeKeyManager} from "../../src/interfaces/ITeeKeyManager.sol";
import {SignedPlace} from "../../src/libraries/SignedPlace.sol";
import {BridgeSettings} from "../../src/types/BridgeSettings.sol";
import {Fixture} from "../support/Fixture.sol";
import {LogSigner} from "../support/LogSigner.sol";
import {PlainToken} from "../support/Tokens.sol";
import {vm} from "../support/Vm.sol";

/// @notice Refusals that no honest caller meets and no attack elsewhere was about.
contract RefusalsTest is Fixture {
    function test_constructor_wrappedWithoutCode_reverts() public {
        BridgeSettings memory settings = bridgeSettings(keys, new address[](0));
        settings.wrappedNative = address(0xdead);
        vm.expectRevert(abi.encodeWithSelector(IBridge.NoCode.selector, address(0xdead)));
        new Bridge(settings);
    }

    function test_deposit_moreThanTheBooksHold_reverts() public {
        PlainToken endless = new PlainToken();
        admit(address(endless));
        endless.mint(address(this), type(uint256).max);
        endless.approve(address(bridge), type(uint256).max);
        bridge.deposit(address(endless), type(uint232).max, "");
        vm.expectRevert(abi.encodeWithSelector(IBridge.CustodyTooHigh.selector, address(endless), type(uint232).max, 1));
        bridge.deposit(address(endless), 1, "");
    }

    function test_execute_littleGas_reverts() public {
        IExecutor executor = IExecutor(bridge.executor());
        vm.prank(address(bridge));
        vm.expectPartialRevert(IExecutor.GasTooLow.selector);
        executor.execute{gas: 100_000}(address(counter), countPayload(), 100_000);
        vm.assertEq(counter.calls(), 0);
    }

    function test_initializeMessage_signatureOfOtherLength_reverts() public {
        bytes memory signature = sign(SEQUENCER, bridge.messageDigest(call(1)));
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.SignaturesMalformed.selector, 66));
        bridge.initializeMessage(call(1), bytes.concat(signature, hex"00"));
        vm.expectRevert(abi.encodeWithSelector(ITeeKeyManager.SignaturesMalformed.selector, 0));
        bridge.initializeMessage(call(1), "");
    }

    /// Headers that end too early or too late, or have another label where the stream's or the epoch's is: signed as they are, and no place.
    function test_reportEquivocation_headersOfOtherForm_revert() public {
        bytes memory start = hex"a401382e3a0001000005";
        bytes memory stream = bytes.concat(hex"3a000100035820", STREAM);
        bytes[5] memory headers = [
            bytes.concat(start, hex"3a000100045820", STREAM, hex"3a0001000401"),
            bytes.concat(start, stream, hex"3a00010004"),
            bytes.concat(start, stream, hex"3a000100041b000000"),
            bytes.concat(start, stream, hex"3a000100051b000000"),
            bytes.concat(start, stream, hex"3a000100040100")
        ];
        for (uint256 i = 0; i < headers.length; i++) {
            bytes memory signed = LogSigner.signed(SEQUENCER, headers[i], "synddb/checkpoint/v1", "claim");
            vm.expectPartialRevert(SignedPlace.Malformed.selector);
            keys.reportEquivocation(signed, signed);
        }
    }

    function test_setGuardian_another_pauses() public {
        vm.prank(OWNER);
        bridge.setGuardian(USER);
        vm.assertEq(bridge.guardian(), USER);
        vm.prank(USER);
        bridge.pauseOutbound(1);
        vm.assertEq(bridge.switches().outboundPausedUntil, block.timestamp + 1);
        vm.prank(GUARDIAN);
        vm.expectRevert(abi.encodeWithSelector(IBridge.NotGuardian.selector, GUARDIAN));
        bridge.pauseOutbound(1);
    }
}
