// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Merkle proofs of RFC 9162 over SHA-256
/// @notice Verifies inclusion (section 2.1.3.2) and consistency (section 2.1.4.2) proofs of a Merkle tree whose
/// interior nodes are SHA-256(0x01 || left || right) and whose leaves are hashed by the caller as
/// SHA-256(0x00 || entry).
/// @dev WARNING: no proof binds the size of the *newer* tree. A proof made for size n often verifies for n + 1 as
/// well. A size is therefore a claim of whoever names it; it becomes evidence only together with a signature.
/// The names `fn`, `sn`, `fr`, `sr` are those of the RFC, so that both can be read side by side.
library Rfc9162 {
    /// @dev The SHA-256 precompile at address 2 failed or is missing on this chain.
    error Sha256Failed();

    /// @notice The root that an inclusion path leads to.
    /// @param leaf hash of the leaf
    /// @param index zero-based index of the leaf
    /// @param size number of leaves of the tree
    /// @param proof audit path, from the leaf upwards
    /// @return root the root computed from the path; meaningless when `complete` is false
    /// @return complete whether the path has exactly the length that index and size ask for
    function inclusionRoot(bytes32 leaf, uint256 index, uint256 size, bytes32[] calldata proof)
        internal
        view
        returns (bytes32 root, bool complete)
    {
        if (index >= size) return (bytes32(0), false);
        uint256 fn = index;
        uint256 sn = size - 1;
        root = leaf;
        uint256 steps;
        assembly ("memory-safe") {
            // 65 bytes behind the free memory pointer, used again for each node
            let work := mload(0x40)
            mstore8(work, 1)
            for {} and(lt(steps, proof.length), gt(sn, 0)) { steps := add(steps, 1) } {
                let sibling := calldataload(add(proof.offset, shl(5, steps)))
                switch or(and(fn, 1), eq(fn, sn))
                case 0 {
                    mstore(add(work, 1), root)
                    mstore(add(work, 33), sibling)
                }
                default {
                    mstore(add(work, 1), sibling)
                    mstore(add(work, 33), root)
                    for {} iszero(or(and(fn, 1), iszero(fn))) {} {
                        fn := shr(1, fn)
                        sn := shr(1, sn)
                    }
                }
                // Yul evaluates arguments from right to left: the call runs before its return size is read. The
                // size is checked because a call to an address without code succeeds and returns nothing.
                if iszero(and(eq(returndatasize(), 32), staticcall(gas(), 2, work, 65, 0, 32))) {
                    mstore(0, 0xc176b3c5) // Sha256Failed()
                    revert(28, 4)
                }
                root := mload(0)
                fn := shr(1, fn)
                sn := shr(1, sn)
            }
        }
        complete = steps == proof.length && sn == 0;
    }

    /// @notice Whether the tree (second, secondRoot) is an extension of the tree (first, firstRoot).
    /// @dev Sizes that do not grow, and a first size of zero, prove nothing and give false.
    /// @param first size of the older tree
    /// @param firstRoot root of the older tree
    /// @param second size of the newer tree
    /// @param secondRoot root of the newer tree
    /// @param proof consistency proof between both
    function isConsistent(
        uint256 first,
        bytes32 firstRoot,
        uint256 second,
        bytes32 secondRoot,
        bytes32[] calldata proof
    ) internal view returns (bool) {
        if (first == 0 || first >= second || proof.length == 0) return false;
        uint256 fn = first - 1;
        uint256 sn = second - 1;
        uint256 steps;
        bytes32 fr = firstRoot;
        bytes32 sr;
        assembly ("memory-safe") {
            for {} and(fn, 1) {} {
                fn := shr(1, fn)
                sn := shr(1, sn)
            }
            // fn is zero exactly when `first` is a power of two: the old root itself is then the first node
            if fn {
                fr := calldataload(proof.offset)
                steps := 1
            }
            sr := fr
            let work := mload(0x40)
            mstore8(work, 1)
            for {} and(lt(steps, proof.length), gt(sn, 0)) { steps := add(steps, 1) } {
                let node := calldataload(add(proof.offset, shl(5, steps)))
                let hashed
                switch or(and(fn, 1), eq(fn, sn))
                case 0 {
                    mstore(add(work, 1), sr)
                    mstore(add(work, 33), node)
                    hashed := and(eq(returndatasize(), 32), staticcall(gas(), 2, work, 65, 0, 32))
                    sr := mload(0)
                }
                default {
                    mstore(add(work, 1), node)
                    mstore(add(work, 33), fr)
                    hashed := and(eq(returndatasize(), 32), staticcall(gas(), 2, work, 65, 0, 32))
                    switch eq(fr, sr)
                    case 1 {
                        // both trees still share this part: one hash serves both
                        fr := mload(0)
                        sr := fr
                    }
                    default {
                        fr := mload(0)
                        mstore(add(work, 33), sr)
                        hashed := and(hashed, staticcall(gas(), 2, work, 65, 0, 32))
                        sr := mload(0)
                    }
                    for {} iszero(or(and(fn, 1), iszero(fn))) {} {
                        fn := shr(1, fn)
                        sn := shr(1, sn)
                    }
                }
                if iszero(hashed) {
                    mstore(0, 0xc176b3c5) // Sha256Failed()
                    revert(28, 4)
                }
                fn := shr(1, fn)
                sn := shr(1, sn)
            }
        }
        return steps == proof.length && sn == 0 && fr == firstRoot && sr == secondRoot;
    }
}
