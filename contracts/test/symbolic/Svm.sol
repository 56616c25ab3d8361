// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {vm} from "../support/Vm.sol";

/// @notice The cheat codes of halmos that the proofs use.
interface Svm {
    function enableSymbolicStorage(address account) external;
    function createBytes32(string memory name) external pure returns (bytes32);
    function createUint(uint256 bits, string memory name) external pure returns (uint256);
    function createAddress(string memory name) external pure returns (address);
    function createCalldata(string memory contractName) external pure returns (bytes memory);
}

// Where halmos answers.
Svm constant svm = Svm(address(uint160(uint256(keccak256("svm cheat code")))));

// Lets storage of an account hold anything. Slots that a constructor wrote are concrete and stay so, so those before the mappings are
// stored to as well; how many there are is in `snapshots/storage`.
function anyStorage(address account, uint256 slots) {
    svm.enableSymbolicStorage(account);
    for (uint256 i = 0; i < slots; i++) {
        vm.store(account, bytes32(i), svm.createBytes32("slot"));
    }
}
