"""Choice of tiles, columns and memory maps: Attention -> Plan."""
