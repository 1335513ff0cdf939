"""Every configuration key: name, type, default, range, dynamic or not, one sentence.

`broker.BrokerConfig` reads a broker's settings, `topic.LogConfig` holds those of one partition log, `describe` answers
`DescribeConfigs`.
"""
