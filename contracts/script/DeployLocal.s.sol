// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {WETH} from "solady/tokens/WETH.sol";
import {AlwaysYesVerifier} from "../test/support/AlwaysYesVerifier.sol";
import {vm} from "../test/support/Vm.sol";
import {Configurations} from "./Configuration.sol";
import {Deployment} from "./Deployment.sol";

/// @title Deploys on a chain of this machine, with a verifier that believes everything
/// @notice For development and tests, where there is no TEE. Reverts on any chain but 31337, because whoever asks is admitted: any key may become a
/// validator. `SYNDDB_STREAM` names the stream, `SYNDDB_THRESHOLD` the threshold.
///
///     SYNDDB_STREAM=0x.. SYNDDB_THRESHOLD=2 forge script script/DeployLocal.s.sol --rpc-url http://127.0.0.1:8545 --private-key .. --broadcast
contract DeployLocal is Deployment {
    /// The digests of images that hold keys here, by role: there are no images.
    bytes32 public constant SEQUENCER_IMAGE = keccak256("synddb sequencer, development");
    bytes32 public constant VALIDATOR_IMAGE = keccak256("synddb validator, development");

    /// The verifier that says yes is for a chain of this machine alone.
    error ChainNotLocal(uint256 chainId);

    function run() external {
        if (block.chainid != Configurations.LOCAL_CHAIN_ID) revert ChainNotLocal(block.chainid);
        bytes32 stream = vm.envBytes32("SYNDDB_STREAM");
        uint256 threshold = vm.envUint("SYNDDB_THRESHOLD");
        vm.startBroadcast();
        address wrappedNative = address(new WETH());
        address verifier = address(new AlwaysYesVerifier());
        vm.stopBroadcast();
        string memory sender = vm.toString(msg.sender);
        // As `deploy.example.json` has it.
        string memory admitted =
            string.concat('[{"verifier":"', vm.toString(verifier), '","codeHash":"', vm.toString(verifier.codehash), '"}]');
        string memory who =
            string.concat('"guardian":"', sender, '","installer":"', sender, '","proposers":["', sender, '"],"verifiers":', admitted);
        string memory what = string.concat(
            '"stream":"',
            vm.toString(stream),
            '","threshold":',
            vm.toString(threshold),
            ',"wrappedNative":"',
            vm.toString(wrappedNative),
            '"'
        );
        string memory images = string.concat("[", _image(SEQUENCER_IMAGE, "sequencer"), ",", _image(VALIDATOR_IMAGE, "validator"), "]");
        string memory none =
            '"delay":0,"limitPeriod":0,"limitDelay":0,"limits":[],"tokens":[],"salt":0,"checkpointAgeMsMax":0,"orderedFrom":0';
        _deploy(string.concat("{", what, ",", who, ',"keyLife":2592000,"images":', images, ",", none, "}"));
    }

    function _image(bytes32 digest, string memory role) private pure returns (string memory) {
        return string.concat('{"digest":"', vm.toString(digest), '","role":"', role, '"}');
    }
}
