// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {TeeKeyManager} from "../../src/attestation/TeeKeyManager.sol";
import {Signatures} from "../../src/libraries/Signatures.sol";
import {AdmittedImage, AdmittedVerifier, Role} from "../../src/types/Key.sol";
import {vm} from "../support/Vm.sol";
import {anyStorage} from "./Svm.sol";

/// @notice Makes calldata of what the library reads.
contract SignaturesHarness {
    function signer(bytes32 digest, bytes calldata signature) external pure returns (address) {
        return Signatures.signer(digest, signature);
    }
}

/// @notice Whatever storage holds, a quorum has no fewer signers than the threshold, all live, each once. `ecrecover` is any function.
contract QuorumProof {
    /// The owner; the next owner, the threshold and the counts.
    uint256 private constant SLOTS = 2;

    TeeKeyManager private _keys;
    SignaturesHarness private _signatures;

    function setUp() public {
        _keys = new TeeKeyManager(address(0xa11ce), bytes32(uint256(0x5d)), 30 days, 1, new AdmittedVerifier[](0), new AdmittedImage[](0));
        _signatures = new SignaturesHarness();
    }

    function check_validatorThreshold_isBetweenOneAndTheValidators() public {
        anyStorage(address(_keys), SLOTS);
        uint32 threshold = _keys.validatorThreshold();
        assert(threshold != 0 && threshold <= _keys.validatorCount());
    }

    function check_setThreshold_neverBreaksIt(address caller, uint32 given) public {
        anyStorage(address(_keys), SLOTS);
        vm.prank(caller);
        _keys.setThreshold(given);
        assert(_keys.validatorThreshold() == given);
        assert(caller == _keys.owner());
    }

    /// @custom:halmos --array-lengths signatures={0,64,65,66,130,195,260,325}
    function check_requireQuorum_neverAcceptsFewerOrEqualSigners(bytes32 digest, bytes calldata signatures) public {
        anyStorage(address(_keys), SLOTS);
        _keys.requireQuorum(digest, signatures);

        uint256 count = signatures.length / 65;
        assert(signatures.length == count * 65);
        assert(count != 0 && count >= _keys.validatorThreshold());
        address previous = address(0);
        for (uint256 i = 0; i < count; i++) {
            address signer = _signatures.signer(digest, signatures[i * 65:(i + 1) * 65]);
            assert(signer > previous);
            assert(_keys.isLive(signer, Role.Validator));
            previous = signer;
        }
    }

    /// @custom:halmos --array-lengths signature={0,64,65,66}
    function check_signer_takesOneFormOnly(bytes32 digest, bytes calldata signature) public view {
        address signer = _signatures.signer(digest, signature);
        assert(signature.length == 65);
        assert(signer != address(0));
        // Half the order of the curve.
        assert(uint256(bytes32(signature[32:64])) <= 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0);
        assert(signer == ecrecover(digest, uint8(signature[64]), bytes32(signature[0:32]), bytes32(signature[32:64])));
    }

    /// @custom:halmos --array-lengths signature={65}
    function check_requireSequencer_acceptsLiveSequencersOnly(bytes32 digest, bytes calldata signature) public {
        anyStorage(address(_keys), SLOTS);
        address sequencer = _keys.requireSequencer(digest, signature);
        assert(sequencer != address(0));
        assert(_keys.isLive(sequencer, Role.Sequencer));
        assert(!_keys.isLive(sequencer, Role.Validator));
    }
}
