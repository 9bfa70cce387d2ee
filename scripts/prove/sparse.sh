#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# sparse.sh ARGUMENT...: sparse, as kbuild calls it. That of Debian 12 ends at extensions of
# RISC-V that it does not know, so it gets those that it does.
exec sparse "${@/#-march=rv64*/-march=rv64imac}"
