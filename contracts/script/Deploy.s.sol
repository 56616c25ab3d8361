// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {vm} from "../test/support/Vm.sol";
import {Deployment} from "./Deployment.sol";

/// @title Deploys what a configuration says
/// @notice `SYNDDB_DEPLOY` names the configuration; `deploy.example.json` shows one.
///
///     SYNDDB_DEPLOY=deploy.json forge script script/Deploy.s.sol --rpc-url URL --account NAME --broadcast
contract Deploy is Deployment {
    function run() external {
        _deploy(vm.readFile(vm.envString("SYNDDB_DEPLOY")));
    }
}
